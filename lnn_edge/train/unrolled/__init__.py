"""Layers unrolled over time for training, with gradients of their own."""
