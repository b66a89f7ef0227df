"""The recurrent cores in a model: found, read, and called as their authors call them."""
