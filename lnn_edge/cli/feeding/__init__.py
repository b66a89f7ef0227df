"""Rows of a table through a stream.

arguments  what there is to choose about rows, as it is typed
handling   what the user chose about the rows
time_unit  the unit of a time column
held_rows  missing cells, filled for a while
row_times  gaps, late rows and the pace, told apart
tally      what came and went, for the summary
feed       the rows stepped, one after the other
kept_feed  what a feed stands at, for a file
keeper     rows that go on where they were killed
summary    the last line
row_run    the rows, from the first to the last line
"""
