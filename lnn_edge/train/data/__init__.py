"""Training data: sequences, targets and metadata from what a user passes to `fit`.

sequences   X and timespans, read as sequences of float32 samples
shapes      axes, columns and counts, looked at before anything is converted
missing     where a value is missing, or no number
frames      results with the index of X, and what that index says of the sequences
row_order   what the labels of rows say of their order
targets     y and sample weights, read per sequence
prepare     both together, checked, scaled and split
dataset     the tensors, handed out in mini-batches
metadata    what is kept: the meaning of columns and outputs, ranges, a sample of the data
"""
