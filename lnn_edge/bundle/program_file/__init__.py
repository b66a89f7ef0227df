"""The files of a step program, step.json and step.safetensors: read, and checked as a forged one would be.

reading    from two files to a program, or why it is none
weights    the second of them, read in place
checks     names, operands, shapes and numbers
agreement  what a program and the manifest beside it must agree on
"""
