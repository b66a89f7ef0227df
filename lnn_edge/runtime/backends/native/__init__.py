"""The `native` backend: C from the step program, compiled on this machine by its own compiler.

backend    the library of a bundle, from the cache or new
compiler   the compiler of this machine, and what it is given
watched    a program that ends with all that it started
tuning     the choice of registers and flags, by measurement
library    a compiled step, called through ctypes
stepper    the buffers of one stream
rows       many streams in one call
checks     what `lnn-edge doctor` says of it
"""
