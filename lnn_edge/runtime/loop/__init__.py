"""The loop around a stream, in parts that can each be used alone.

timer        the clocks, and waiting on them
pacing       due times, and ticks whose time is over
rehearsal    a step for practice before each tick
practice     a second stream of the model, to rehearse with
waiting      ways to wait
source       where samples come from, and the ten lines of a device of one's own
inputs       devices that wait, devices that are late, several of them
sink         where results go, written by a thread of its own
timer_slack  a setting of Linux that timers are late by
"""
