"""A step of the user's own code, traced and translated operation by operation.

core_op      the operation that stands for a core
frames       lines of the user's code that a trace notes
trace        a step traced, and its way into a step program
recorder     the step program while it is recorded
translator   the walk through the trace
decompose    torch's own decomposition of one operation
record_core  a core as nodes
folding      constants that go into the weights beside them
registry     what a rule is
ops          the rules, by kind of operation
"""
