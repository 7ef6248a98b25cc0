"""Data sets: training and test examples as tensors.

To add one, write `f(root, *, ...) -> Splits` in a module here, decorated with `@datasets.register(name, source=...)`:
`root` is the folder of data sets, `Splits` that of `lottery.data.splits`.
"""
