"""A plan is run: each of its jobs from a start to a result in the store.

The way of one job, each arrow one function, none of them going back:

    Recipe           results.planning.plan_with_walks ->  Plan
    Plan             run.work                         ->  Job, once all that it needs is done
    Job              starting_point.starting_point    ->  Start: weights, mask, and how it trains
    Start            starting_point.resolve_rate      ->  Start with its learning rate as a number
    Job, Start       timelines.timeline_of            ->  Timeline: its lengths in steps
    Start, Timeline  assemble.assemble                ->  Training
    Training         resume.resume                    ->  Training at the furthest state that is in the store
    Training         execute.execute                  ->  Result: metrics and files
    Result           store.Store.commit               ->  Store

What all jobs share is data, a `context.RunContext`. Before the first job `prepare.prepare` loads the data, makes the
plan and has `checks.check` refuse what cannot be trained.
"""
