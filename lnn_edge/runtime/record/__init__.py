"""Records that outlive a program: its state on disk, and its ticks in a file, which can be replayed.

snapshot   a state in a file that is whole after a power cut
layout     what a tick consists of, and the names of its fields
ring       ticks in memory, between a loop and the writer
messages   ticks as messages of protobuf, many at once, and back
schema     the description of these messages, in protobuf's own words
library    the libraries of recordings, which may be missing
description  what a recording says about itself
mcap_file  one file of a recording
series     the files of a recording, one after the other
csv_file   the same ticks as CSV
writer     the thread that writes
recorder   every tick of a loop into files
reading    recordings from disk, checked
retrace    one recording stepped again
replay     recordings through a bundle again
"""
