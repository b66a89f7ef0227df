"""The proof that a bundle equals the trained model.

prove           the proof
truth           what the trained model gives
excitation      the samples it is proven on
onnx_reference  ONNX's own evaluator, a second opinion
length          how long a proof is
"""
