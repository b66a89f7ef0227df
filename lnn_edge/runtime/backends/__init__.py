"""What runs a step: one file or folder for each backend of the table in `lnn_edge/backends.py`."""
