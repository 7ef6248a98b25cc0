"""The training loop, its loss, its evaluation and its state; it knows nothing of masks or disk."""
