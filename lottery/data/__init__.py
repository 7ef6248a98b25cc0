"""Data as tensors: splits, batches, images that stay in their files."""
