"""The command line. Commands import what they need when they run, so `--help` is fast and the device needs no torch.

program       the parser, and what becomes an exit code and one line on standard error
commands      one file for each command
exit_codes    the numbers with which a command ends
arguments     arguments that several commands share
guard_file    the policies of a guard, as a file
source_check  what is wrong with the name of a model, told before torch is imported
paths         no output takes the place of an input
console       results on standard output, everything else on standard error
proof_text    a proof as text
bench_text    what `bench` measured, as text
program_text  a step program as text
keeping       a run that goes on where it was killed
feeding       rows of a table through a stream, for `run`
looping       `run` as a loop
results       where the results of `run` go, and how they look
signals       signals that end `run` and lose nothing
cross_compile  compilers for other machines: sizes of a step there, and programs
os_errors     errors of the operating system in plain words
"""
