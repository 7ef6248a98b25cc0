"""Analyses: measurements of trained networks, each a job of a plan.

To add one, write `f(subject, memo, *, ...) -> Measurement` in a module of this folder, decorated with
`@analyses.register(name, source=..., looks_at=...)`: `subject` is a `lottery.landscape.subject.Subject`, and parts that
take long are computed through the `memo` (`lottery.landscape.memo.Memo`), so that a killed job goes on. Told to
stop, it ends at the next batch of its examples; long work without batches calls `subject.check` now and then. It may
measure on the test set, and never choose by it.
"""
