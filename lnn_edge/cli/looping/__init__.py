"""`run` as a loop: at a rate, guarded, rehearsed and recorded.

choices    what the user chose about the loop
rows       rows of a table as a source, those of a pipe read ahead
lines      ticks as lines
kept_loop  a loop that goes on where it was killed
loop_run   the loop, from its beginning to its summary
"""
