"""What "equal" means, and how it is told."""
