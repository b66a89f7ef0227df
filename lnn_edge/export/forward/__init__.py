"""The user's forward: called as its author calls it, whatever it checks, keeps and returns.

forward     on whole sequences, with what it returns taken apart
arguments   inputs, states and time among its arguments
leaves      its outputs
returned    what it returns, opened: dataclasses and distributions
example     the user's example in one way of reading it
scaling     a network's own normalisation
checks      checks in the user's code that only raise
attributes  what a call leaves in attributes, put back
advice      what to write instead of code that raised
"""
