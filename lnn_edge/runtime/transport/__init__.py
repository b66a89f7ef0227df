"""Where samples come from and results go."""
