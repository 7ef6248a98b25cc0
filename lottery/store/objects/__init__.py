"""A store without a shared disk: in an object store, reached through `obstore`.

`bucket` has every request and what its refusals mean, `listing` remembers what lies there, `cache` keeps what was read
on this machine's disk, `leases` claims jobs by compare-and-set, `chores` does what nobody has to wait for, `events`
keeps the log in parts, `objects` puts them together as the place of a store.
"""
