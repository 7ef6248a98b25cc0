"""Branches off the trunk: each turns a finished level into the starting point of one more training, a control."""
