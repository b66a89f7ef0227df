"""A step of the user's own code, traced and translated operation by operation."""
