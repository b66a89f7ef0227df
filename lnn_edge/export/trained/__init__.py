"""Trained models: called on whole sequences, stepped, restated in exact arithmetic, lowered to a graph.

protocol       what the exporter asks of a model
open           from the user's module to one of the three below
layer          a single ncps layer or cell
network        a network around some
user_step      a network whose step the user writes
core_step      one core alone
closed_loop    how all of them are stepped
traced         how networks are traced
weights        the weights of cores, hidden from a trace and found quickly in a call
patching       what computes in place of a core
probabilities  logits as probabilities of classes
pooling        what its forward makes of the outputs of a recording
look_back      what its outputs depend on, and the last samples kept for encoders that see several
kept_states    a network's cores and the states kept for them
step_function  the user's step, and what its state is made of
probe          what only calling that step shows
"""
