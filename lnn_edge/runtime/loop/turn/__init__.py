"""One turn of a loop: from a sample to what the robot gets.

turn       the guarded stream, and what answers a fault
tally      how many there were of each status, and how long they took
keeping    who gets each tick behind what the robot waits for
functions  the user's, timed and never trusted
"""
