"""Entries that a recipe can name: one function in one module adds an entry.

Write the function into the module or folder of its kind, decorated with `register` of that catalogue in
`lottery.registry`, as in `@optimizers.register("mine", source="Me 2026")`: its keyword-only parameters, with types and
defaults, are the keys that a recipe may give. The docstring at the start of each module or folder has the signature,
`lottery.traits` what the decorator can be told of an entry.

Modules and folders are called as the recipe's sections. Those with a leading underscore are parts of the entries beside
them, imported only when one of these is called: torch is imported at the top there and nowhere else.
"""
