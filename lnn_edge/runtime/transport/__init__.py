"""Transports: where samples come from and results go.

row            what every transport yields
csv_file       CSV files and pipes
recordings     whole files of them, for training
header_faults  what is wrong with the first lines of a table, in words
text_lines     lines as they come
marked_lines   lines that a later run knows again
time_column    times in any unit, and dates
"""
