"""Durations as figures.

durations   a set of them, summarised
histogram   any number of them, in memory that does not grow
"""
