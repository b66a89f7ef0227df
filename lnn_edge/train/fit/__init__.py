"""Training of one network.

run          from prepared data to a trained network
trainer      the loop over epochs and mini-batches
loss         what it minimises
schedule     its learning rates
checkpoint   where a run is, in a file from which it goes on
progress     the record of an epoch, shown while it runs
"""
