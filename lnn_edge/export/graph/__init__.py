"""The ONNX graph, node by node.

builder  nodes, constants, inputs and outputs
float16  a finished step in half precision
names    what its nodes and constants are called
parts    a finished graph cut where its encoder ends
description  what it says of itself, in words and in metadata
"""
