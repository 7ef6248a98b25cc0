"""Entries from outside this package.

`load` finds and imports their modules, `signature` reads the keys that a function takes, `source` hashes what their
results depend on.
"""
