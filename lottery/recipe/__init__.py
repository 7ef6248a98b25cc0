"""From YAML to a validated recipe.

`yaml` reads the text, `schema` and `types` have the sections and keys, `components` checks the arguments of catalogue
entries, `conflicts` and `consistency` what does not go together; `load` calls them in this order.
"""
