"""Policies for samples that a stream cannot simply be stepped with.

dt_policy     gaps between samples, and times that are not the model's period
bad_samples   samples that the stream refuses
row_check     one sample, before it becomes part of a block
"""
