"""Measurements of the loss surface around trained networks, restricted to the weights that survive their masks.

Every measurement is a function of a `surface.Surface`, which is the mean loss as a function of a flat vector with one
coordinate for each surviving weight. Pruned weights are no coordinates: nothing here reads or moves them.
"""
