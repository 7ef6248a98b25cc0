"""A plugin of lottery for tables of measurements."""
