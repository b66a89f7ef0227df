"""The bundle's format: what export writes and the device loads."""
