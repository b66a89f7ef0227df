"""What this computer is, and what ruins its latency."""
