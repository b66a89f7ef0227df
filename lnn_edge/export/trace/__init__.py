"""What surrounds the cores: the user's own step, traced and translated operation by operation.

trace       one step as a torch.export program
core_op     the operation that stands for a core in it
translator  from that program to nodes of the graph
folding     values that are not written yet, so that constants go into weights
registry    what a rule of translation is
ops         the rules, a file for each kind of operation
"""
