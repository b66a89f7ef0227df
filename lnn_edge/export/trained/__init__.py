"""What a trained model gives: on whole sequences, stepped, in float64, and as a step to be traced.

protocol       what the exporter asks of it
open           from whatever module was trained to one of the three below
layer          one LTC or CfC
network        a network around cores
user_step      a network whose step the user writes
step_function  that step, and what its state is made of
forward        the user's forward, called as in training
patching       cores patched while a forward or a step runs
"""
