"""Transports: where samples come from and results go.

csv_file   CSV files and pipes
"""
