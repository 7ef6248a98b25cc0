"""Checks of entries of one's own, such as the tests of this project make of its catalogues.

`check_entry` is the front door. What it asks of a model, a data set, an optimizer, a criterion and an init is in the
modules of these names.
"""

from lottery.testing.check import check_entry

__all__ = ["check_entry"]
