"""Commands, one file for each: its arguments, a frozen struct of what was chosen, and what it does.

export    from a training script and its weights to a proven bundle
verify    the proof of a bundle again, on this machine
inspect   what a bundle is
build     what a backend would otherwise make on first use
codegen   the step as C, with a program that replays the golden sequences
run       a CSV file or a pipe through a bundle
replay    recordings through a bundle again
bench     the latency of a step
doctor    what this machine is ready for
"""
