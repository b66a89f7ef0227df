"""The bundle's format: what export writes and the device loads."""

from ..former_names import serve_former_names

serve_former_names(__name__)
