"""Checks of a study's records against each other, and of its stored states against what made them."""
