"""The format of a bundle: what export writes, what the device loads, and nothing that runs.

spec        the vocabulary: features, tensors, state pairs, time, cores
columns     features as text, name:unit:low:high, and in a table
manifest    what a bundle says about itself, written, read and checked
program     the step program: inputs, states, nodes, outputs
operations  the operations that it may hold
step_cores  the cores that it may hold
encoder     what its nodes cost, and those that depend on samples alone
program_file  its two files, read and checked
opset       the operators that model.onnx may hold
onnx_wire   what model.onnx holds, read with no library and without following anything
onnx_operators  the rules of its operators
onnx_graph  its operators, types, shapes and cost, checked before a library sees it
golden      recorded sequences with the results of the trained model
directory   a bundle read from its directory: each file once, whole, and hashed
disk        how one takes the place of another, and what a reader sees meanwhile
"""
