"""Cores as C, a file for each kind; equations: `lnn_edge.reference`.

timespan  the time since the last sample, as a core takes it
synapses  rows of synapses, a target in each lane
split_rows  rows of synapses, cut where their targets have lists of different length
ltc       the liquid time-constant cell
cfc       the closed-form continuous-time cell
gru       torch's GRU
lstm      torch's LSTM
rnn       torch's RNN
"""
