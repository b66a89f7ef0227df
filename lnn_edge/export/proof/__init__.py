"""The proof that a bundle equals the trained model.

excitation      the samples it is stepped with
length          how many
truth           what the trained model gives for them
prove           the bundle, stepped closed loop and compared
onnx_reference  a second opinion: ONNX's own evaluator
"""
