"""Layers unrolled over time for training, with gradients of their own.

layer               `unrolled`, the one door
support             which layers the hand-written loop computes
time_loop           the loop, forward and backward, as one autograd function over a chain of autograd blocks
cfc_fold            a CfC as such a chain
cfc_blocks          its autograd blocks
cfc_modes           its three ways to make the next state
ltc_fold            an LTC as such a chain
ltc_block           its autograd block
synapses            its synapses as sparse products
lstm_block          the autograd block of mixed memory
recurrent_product   the product that CfC and LSTM share
"""
