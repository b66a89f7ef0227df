"""Modes of a stream, a file each. Values in, values out: the stream alone keeps what is so.

mode      what a mode gives the stream
plain     the output of each sample, with a state that is kept
readout   readouts of sequences
running   the readout of a sequence so far
many      steps of many streams at once, with the state as a value
row_values  rows of which some hold nothing that can be stepped
windows   the readout of windows that each begin from the initial state
"""
