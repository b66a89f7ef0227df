"""The proof that a bundle equals the trained model."""
