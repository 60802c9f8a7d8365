"""Backbones: one interface over timm's models."""
