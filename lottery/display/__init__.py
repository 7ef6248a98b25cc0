"""A run as a person sees it while it lasts: on a terminal, in a notebook, or as lines in a pipe or a log.

`display_of` chooses; `Tally` counts and foresees; `TerminalDisplay` and `NotebookDisplay` show the same.
"""
