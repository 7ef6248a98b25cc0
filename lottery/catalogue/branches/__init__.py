"""Controls: each turns a finished level of a trunk into the starting point of one more training.

To add one, write `f(level, generator, *, ...) -> Start` in a module here, decorated with `@branches.register(name,
source=..., origins={...})`: `Level` and `Start` are those of `lottery.pruning.start`, `origins` says where its weights
and mask come from (`lottery.plan.origins`), for the documentation and the audit.
"""
