"""Training data: sequences, targets and metadata from what a user passes to `fit`."""
