"""The loop around a stream, in parts that can each be used alone.

loop         all of it: samples in, results out
turn         one turn: from a sample to what the robot gets
timer        the clocks, and waiting on them
pacing       due times, and ticks whose time is over
rehearsal    a step for practice before each tick
practice     a second stream of the model, to rehearse with
waiting      ways to wait
source       where samples come from, and the ten lines of a device of one's own
inputs       devices that wait, devices that are late, several of them
sink         where results go, written by a thread of its own
state_saver  the state on disk, now and then
report       what happens, told beside the loop
summary      what became of it
ending       signals
watchdog     a thread that notices that the loop stands
systemd      words to systemd's socket
realtime     settings of the machine
"""
