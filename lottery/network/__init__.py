"""From a recipe's model to a network at initialization, and which of its weights may be pruned."""
