"""Data curation on arrays and Arrow tables: hashing, neighbours, clustering, sampling, embedders, galleries."""
