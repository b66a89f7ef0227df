"""A step of the user's own code, traced and translated operation by operation.

core_op     the operation that stands for a core
trace       the program of a step, and its way into a graph
translator  the walk through the program
folding     constants that go into the weights beside them
registry    what a rule is
ops         the rules, by kind of operation
"""
