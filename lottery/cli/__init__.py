"""The commands of `lottery`."""
