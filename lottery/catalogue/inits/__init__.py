"""Initializations: `f(model, generator)` draws each linear and convolutional weight anew, in the order of the modules.

Biases become zero, normalizations start at weight 1, bias 0 and fresh statistics. With the trait `batch` an init is
called `f(model, generator, batch)`, where batch are inputs and targets of training examples.
"""
