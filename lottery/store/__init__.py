"""Finished jobs in one place: manifests, checkpoints, leases, maintenance.

`store` commits jobs and reads them, wherever they lie; `place` says what it asks of a place, `folder` is the place on a
disk. `open` finds the store that a caller names, `manifest` seals a finished job, `finished` remembers which are
verified, `checkpoints` keeps states of unfinished ones, `leases` saves work being done twice, `notes` caches what can
be made anew, `fingerprints` are those of data, `maintenance` counts and removes.
"""
