"""Entries from outside this package: how modules are found and imported, and the hash of their source."""
