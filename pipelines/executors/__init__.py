"""Where steps run: in this process, or as tasks of a Ray cluster."""
