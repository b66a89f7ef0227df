"""Cores as nodes of the graph, one file for each kind of cell.

core       a whole core: memory cell, cell, projection
ltc        the LTC
cfc        the CfC in its modes
rnn        torch's recurrent layers
step_time  the timespan of a step: folded, or scaled from dt
"""
