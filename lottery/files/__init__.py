"""Safe reading and writing of files, and tensors on disk."""
