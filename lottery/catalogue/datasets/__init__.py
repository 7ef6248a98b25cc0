"""Datasets: one function adds one; `f(root, **args) -> lottery.data.splits.Splits`."""
