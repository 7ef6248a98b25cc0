"""Finished jobs on disk: manifests, checkpoints, leases, maintenance."""
