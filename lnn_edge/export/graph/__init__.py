"""The ONNX graph, node by node.

builder  nodes, constants, inputs and outputs
float16  a finished step in half precision
parts    a finished graph cut where its encoder ends
"""
