"""Bundles on the disk: how one takes the place of another, and what a reader sees meanwhile.

exchange  two directories that trade names, in one call of the system
writing   a bundle that appears whole or not at all
reading   the files of a bundle, all open, and what to do when another takes its place
"""
