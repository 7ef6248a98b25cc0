"""What is connected to what in a pruned network: dead units, compact networks, multiply-adds."""
