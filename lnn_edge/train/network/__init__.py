"""The network that the estimator trains."""

from ...former_names import serve_former_names

serve_former_names(__name__)
