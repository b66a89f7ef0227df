"""The ONNX graph of a step.

builder  nodes, weights, inputs and outputs of a graph
float16  a finished graph in half precision
"""
