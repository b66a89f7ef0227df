"""Cores as nodes of the graph."""
