"""Optimizers: one function adds one; `f(model, *, lr, ...) -> torch.optim.Optimizer`."""
