"""Data as tensors: splits, batches made on the device, images that stay in their files."""
