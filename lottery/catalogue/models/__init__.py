"""Models: networks for inputs of one shape.

To add one, write `f(input_shape, classes, *, norm, activation, ...) -> nn.Module` in a module here, decorated with
`@models.register(name, source=..., scaled=...)`: `input_shape` is that of one example, names of layers are those of the
paper.
"""
