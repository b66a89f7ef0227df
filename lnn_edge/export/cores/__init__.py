"""The recurrent cores in a model: found, read, and called as their authors call them.

find       which there are, and what each computes
liquid     LTC and CfC, layers and cells, as float64 maths
recurrent  torch's GRU, LSTM and RNN likewise
calling    calling conventions: samples, states and results of ncps and of torch
timespans  seconds to timespans, and timespans that a forward passes
wrappers   modules that only stand around another one
checks     what must not override the maths
masks      sparsity masks that training has moved
config     how a core was built, as data
rebuild    between cores and that data
"""
