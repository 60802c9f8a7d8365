"""Loaders side by side: each reads the same JPEGs in its own format, in a process of its own."""
