"""Measurements of the framework; the scripts in this folder are run by themselves."""
