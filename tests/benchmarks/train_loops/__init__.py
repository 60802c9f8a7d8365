"""The training loops that `train_step` compares, each a process of its own that waits for its turns at a gate."""
