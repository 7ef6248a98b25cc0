"""Executors: what starts the workers of a run, `lottery run RECIPE --on NAME`.

To add one, write `f(launch, *, workers=2, ...) -> Workers` in a module of this folder, decorated with
`@executors.register(name, source=..., detached=...)`. `launch` is a `lottery.catalogue.executors._workers.Launch`: the
command of one worker, and where it runs. `Workers`, in the same module, says what is to be returned: something that
starts that command so many times, counts what lives, and tells it to leave. Jobs are no business of an executor: it
starts workers, and each takes the best job that nobody has. It holds no state that a run needs: whatever it loses, the
same command goes on. A library that it needs is imported when the function is called.
"""
