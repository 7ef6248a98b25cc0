"""Tables of what finished jobs measured: accuracy, transfer between optimizers, costs, layers, examples.

To add one, write `f(study) -> list[Row]` in a module here and name it in `views`, which says how. `accuracy`,
`transfer`, `learning_rates`, `costs`, `layers`, `mask_overlap` and `examples` are such tables; `cells` has the values
that they compare, by cell and seed, `rows`, `columns` and `labels` what rows are made of, `notes`, `missing` and
`environments` what a reader must be told beside them.
"""
