"""`make gpu`: what a GPU gains, measured in eight minutes; `docs/speed.md` says how it is used.

Each stage is a process of its own with a time limit (`drive`), which writes down its measurements as it makes them
(`stage`); `stages` has their order.
"""
