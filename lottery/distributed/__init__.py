"""One training on several processes, its ranks: how they are started, and what they tell one another."""
