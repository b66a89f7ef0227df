"""Look-back that is causal: which samples an output depends on, and the last ones as a state of the step.

receptive_field  which samples each output depends on, found by changing some
kept             a forward stepped with its last samples
"""
