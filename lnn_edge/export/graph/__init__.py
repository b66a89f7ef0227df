"""The ONNX graph, node by node."""

from ...former_names import serve_former_names

serve_former_names(__name__)
