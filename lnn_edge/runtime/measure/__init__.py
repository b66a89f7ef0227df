"""Measurement of the latency of a step.

timing      steps back to back and at a rate
turns       paced steps of several kinds, in turns
"""
