"""Verdicts on tickets: verdicts, claims, replications of published figures, and the tests that they rest on."""
