"""Finished jobs on disk: manifests, checkpoints, leases, maintenance.

`store` has each path and commits jobs, `open` finds the store that a caller names, `manifest` seals a finished job,
`finished` remembers which are verified, `checkpoints` keeps states of unfinished ones, `leases` saves work being done
twice, `notes` caches what can be made anew, `maintenance` counts and removes.
"""
