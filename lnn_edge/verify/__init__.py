"""The meaning of "equal", and the ways to show it. NumPy alone; only the picture needs matplotlib.

tolerance             how far from its reference a result may be, and why
comparison            the error figures of one tensor
samples               what is stepped through, and where sequences begin
excitation            the samples of a proof, made from recordings and ranges
few_samples           the same where the encoder is costly: few samples, over and over
few_beside_constants  the same where inputs are given once per sequence
grounds               narrower samples, where a model has no result for the others
report                what a proof found
spacing               how far apart float32 numbers lie beside a column's spread
plot                  the picture of a proof
"""
