"""One turn of a loop: from a sample to what the robot gets.

turn       the guarded stream, and what answers a fault
functions  the user's, timed and never trusted
"""
