"""Executors: where the jobs of a run are trained. Each yields the events of a run as they happen."""
