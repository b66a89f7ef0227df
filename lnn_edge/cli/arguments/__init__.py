"""Arguments that several commands share, and what was chosen with them.

numbers    types of arguments that are numbers
backend    what runs a bundle
source     a trained model and its weights
example    recorded samples, and the scaling of training data
columns    lists of columns
constants  constant inputs
"""
