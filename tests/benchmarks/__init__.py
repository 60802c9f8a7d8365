"""Measured comparisons with named peers. Run by hand, never in CI; each keeps its last result in `results/`."""
