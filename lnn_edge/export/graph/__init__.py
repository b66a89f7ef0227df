"""The ONNX graph, node by node."""
