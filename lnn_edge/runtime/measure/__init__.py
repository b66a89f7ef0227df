"""The latency of a step, measured."""
