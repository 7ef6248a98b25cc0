"""From YAML to a validated recipe: schema, types of values, and all that can be wrong with one."""
