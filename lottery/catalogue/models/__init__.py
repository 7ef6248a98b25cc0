"""Models: `f(input_shape, classes, *, norm, activation, ...) -> nn.Module`; names of layers are those of the papers."""
