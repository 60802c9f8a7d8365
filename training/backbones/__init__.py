"""Backbones: one interface over the models of timm and the towers of open_clip."""
