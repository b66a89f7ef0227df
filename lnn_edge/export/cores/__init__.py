"""The recurrent cores in a model: found, read, and called as their authors call them.

maths      what a core computes, apart from any module
copying    deep copies, whatever training has left on a module
find       which recurrent parts a network holds
liquid     ncps layers and cells, read as maths
recurrent  torch's own layers and cells, read as maths
describe   what the manifest says of a liquid core
repairs    what overrides a core and computes the same
checks     what is refused before anything is read
calling    how layers and cells take samples and states
timespans  seconds to timespans, and what timespans may be
wrappers   what torch.compile and others put around a module
masks      sparsity masks that training has moved
config     how a core was built, as data
rebuild    a core built again from that
"""
