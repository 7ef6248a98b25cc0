"""What may be claimed of tickets: verdicts, claims, replications of published figures, and their tests."""
