"""The cases of `lottery bench`, and the bare training loop they are measured against."""
