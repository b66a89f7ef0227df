"""The proof that a bundle equals the trained model.

prove           the proof
sensitivity  how long float32 follows a model that amplifies disturbances
truth           what the trained model and its program give
few_samples     the judges where an encoder is costly: each of few samples is encoded once
remembered      products with weights that torch computes once
onnx_reference  ONNX's own evaluator, for half precision
length          how long a proof is
"""
