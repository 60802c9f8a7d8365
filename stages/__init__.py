"""The steps of a pipeline: each stage reads artifacts, calls one algorithm and writes one artifact."""
