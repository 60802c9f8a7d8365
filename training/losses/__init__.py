"""Losses: pure functions of tensors, reduced over ranks so that N ranks equal one."""
