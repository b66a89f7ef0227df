"""Inputs of a loop besides ready samples: devices that wait, devices that are late, several of them.

newest    the newest sample of a device that waits, read by a thread of its own
joined    several devices by input name, each at a rate of its own
arrivals  when the next sample is to come, and a rehearsal until then
feed      what a loop steps at a tick, or why there is nothing to step
"""
