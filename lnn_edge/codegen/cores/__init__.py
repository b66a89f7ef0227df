"""Cores as C, a file for each kind; equations: `lnn_edge.reference`.

timespan  the time since the last sample, as a core takes it
levels    the order of an LTC's neurons in lanes
runs      which synapse is in which lane of which row
synapses  rows of synapses as C
synapse_loops  loops over them
ltc       the liquid time-constant cell
scalar_ltc  the same without vectors
cfc       the closed-form continuous-time cell
gru       torch's GRU
lstm      torch's LSTM
rnn       torch's RNN
"""
