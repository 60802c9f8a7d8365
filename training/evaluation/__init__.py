"""Probes and label-free measures of frozen features."""
