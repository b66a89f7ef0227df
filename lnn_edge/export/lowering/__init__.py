"""A step program as nodes of a graph.

program     the walk through its nodes
values      what each value is in the graph
operations  the operations, a line for each
ltc         the solver of an LTC
synapses    the sums of its synapses
cfc         the layers of a CfC
rnn         torch's GRU, LSTM and RNN
step_time   the timespan that they all ask for
"""
