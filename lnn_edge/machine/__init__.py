"""Facts about this computer, and checks of what it lacks or what ruins its latency. Standard library alone.

describe        the facts that a latency figure is worthless without
cpu             what this processor's registers can do
jetson          facts about a Jetson
checks          checks for `lnn-edge doctor`: extras and the CPU's clock
jetson_checks   checks of a Jetson
timer_slack     a setting of Linux that timers are late by
"""
