"""Objectives, one a file, and the catalogue that describes them without importing torch."""
