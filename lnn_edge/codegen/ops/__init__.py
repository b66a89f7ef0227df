"""Operations of a step program as C, a file for each kind.

each        of each element, with broadcasting
moves       what only moves numbers
reductions  sums, extremes and shares along axes
products    matrix products and normalisation of layers
windows     convolutions and pools
"""
