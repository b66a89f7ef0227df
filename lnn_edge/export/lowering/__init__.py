"""Cores as nodes of the graph.

core       any core
ltc        the solver of an LTC
synapses   the sums of its synapses
cfc        the layers of a CfC
rnn        torch's GRU, LSTM and RNN
step_time  the timespan that they all ask for
"""
