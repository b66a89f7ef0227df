"""Policies for samples that a stream cannot simply be stepped with, and for states that it must not keep.

guarded       a stream with all of them around it
kept_guard    what it knows beside the state, for a file
status        what became of a sample
stepping      one sample, once or several times
fast_path     the usual tick: a good sample in time
sample_time   the time of a sample: what the model is told
state_health  the bounds of a state
outputs       limits of outputs, and the safe output
pace          the rate of samples, over a window
dt_policy     gaps between samples, and times that are not the model's period
late_samples  samples whose time is not after the one before
holes         values of samples that are missing, and what stands in for them
held_values   values that are missing, and the last good ones in their place
bad_samples   samples that the stream refuses
row_check     one sample, before it becomes part of a block
"""
