"""Transports: where samples come from and results go.

row          what every transport yields
csv_file     CSV files and pipes
text_lines   lines as they come
time_column  times in any unit, and dates
"""
