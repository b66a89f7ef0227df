"""The step program as C99: text from data alone, for a compiler on this machine or for a microcontroller.

form          what is asked of the generator, and what it gives
targets       how wide a target computes
c_text        numbers, tables and names of a bundle as C
c_math        the functions of each element and of each vector, with their bounds
plan          where each value of a step lies
emission      the body of a step while it is written: tables, places, lines
dense         matrix products with their sums in registers
loops         nested loops over broadcast and strided operands
ops           the operations, a file for each kind
cores         the cores, a file for each
table         which function writes which node
c_source      header and source
rows          those of many streams at once
replay        a program around it, with recorded samples
"""
