"""From a recipe to its jobs, each with the key of all that determines its result."""
