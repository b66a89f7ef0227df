"""A run that goes on where it was stopped or killed.

kept_run   what a file says of a run, beside the state
kept_file  the file: found, compared with this run, and written
"""
