"""Checkpoints: what trained weights are read from."""
