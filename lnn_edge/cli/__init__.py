"""The command line. Commands import what they need when they run, so `--help` is fast and the device needs no torch."""
