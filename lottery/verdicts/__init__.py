"""Verdicts on tickets: verdicts, claims, replications of published figures, and the tests that they rest on.

`verdicts` has the rows of tickets against dense networks, which `decisions` decides by the tests, in plain numbers;
`claims` those of tickets against controls, decided by `superiority`; `transfer_tests` those of transferred tickets, by
`transfers`; `connected` those of pairs of networks, by `barriers`; `replication` those of published figures, by
`published_claims`; `frontier` what `levels: auto` decided.
`other_readings` says what would change if accuracy were read at another step, `sentences` puts verdicts into words.
`prospects` and `claim_prospects` say before anything is trained which of all these the seeds of a recipe can show, by
asking the tests themselves (`fewest_seeds`).
"""
