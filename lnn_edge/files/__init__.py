"""Files on a disk that may be full, on a machine that may be switched off at any moment.

staging  hidden names that files and bundles have until they are whole, and what a kill leaves of them
whole    files that appear whole or not at all
lines    files of lines, each there once it is finished
"""
