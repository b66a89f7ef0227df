"""What a user passes to `fit`: sequences, targets, datasets."""
