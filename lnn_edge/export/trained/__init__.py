"""What a trained model gives: on whole sequences, stepped, and in exact arithmetic."""
