"""Trackers: what shows the trainings of a run beside each other elsewhere, `lottery run RECIPE --track NAME`.

To add one, write `f(*, key=..., ...) -> Tracker` in a module of this folder or of a plugin, decorated with
`@trackers.register(name, source=..., package=...)`. `Tracker`, in `lottery.catalogue.trackers._tracker`, says what is
to be returned: something that opens a run for a training, takes its numbers, and closes it. A library that it needs is
imported when the function is called. Its methods may raise, or hang: it is called in a thread of its own, and the run
goes on. A setting that cannot work is refused with a UsageError when the function is called, before anything is
trained.
"""
