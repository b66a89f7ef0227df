"""Streams of compiled steps, whose own `step` is compiled as well.

step.c     the method in C; what is made of it is the extension `_step`
extension  whether it is there
stream     the stream that has it, and what it leaves to Python
"""
