"""Transports: where samples come from and results go.

row        what every transport yields
csv_file   CSV files and pipes
"""
