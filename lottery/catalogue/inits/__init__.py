"""Initializations: each draws the linear and convolutional weights of a model anew, in the order of its modules.

To add one, write `f(model, generator, *, ...) -> None` in a module here, decorated with `@inits.register(name,
source=...)`: it changes the model in place, and nothing but `generator` may be drawn from. With the trait `batch` it is
called as `f(model, generator, batch, *, ...)`, where batch are inputs and targets of training examples.

Biases become zero, normalizations start at weight 1, bias 0 and fresh statistics.
"""
