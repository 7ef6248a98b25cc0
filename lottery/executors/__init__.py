"""Executors: processes in which the jobs of a run are trained; events are yielded as they happen."""
