"""Trained models: called on whole sequences, stepped, restated in exact arithmetic, lowered to a graph."""
