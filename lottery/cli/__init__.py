"""The commands of `lottery`: parse, call, print."""
