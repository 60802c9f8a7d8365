"""Self-supervised training and its evaluation: views, backbones, objectives, losses, the loop, checkpoints, probes."""
