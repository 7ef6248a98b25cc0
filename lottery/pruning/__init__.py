"""The method: masks, scores, how much is pruned of which layer, and iterative magnitude pruning with rewinding."""
