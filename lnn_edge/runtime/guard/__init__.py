"""Policies for samples that a stream cannot simply be stepped with.

dt_policy     gaps between samples, and times that are not the model's period
late_samples  samples whose time is not after the one before
held_values   values that are missing, and the last good ones in their place
bad_samples   samples that the stream refuses
row_check     one sample, before it becomes part of a block
"""
