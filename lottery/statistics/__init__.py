"""Tests and intervals of differences that are paired by seed; no torch, no store."""
