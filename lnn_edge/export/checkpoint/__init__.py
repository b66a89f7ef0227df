"""Checkpoints: what trained weights are read from."""

from ...former_names import serve_former_names

serve_former_names(__name__)
