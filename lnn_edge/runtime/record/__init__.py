"""What outlives a program: its state on disk.

snapshot  a state in a file that is whole after a power cut
"""
