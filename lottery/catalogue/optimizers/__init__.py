"""Optimizers, a module for each family.

To add one, write `f(model, *, lr, ...) -> torch.optim.Optimizer` in a module here, decorated with
`@optimizers.register(name, source=..., rates=(low, high))`, where `rates` is the range that `tune` searches. Where a
mask changes more than gradient and weight, the docstring says in a paragraph that begins with `Mask:` what it makes of
its steps and its state.
"""
