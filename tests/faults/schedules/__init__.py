"""Random schedules: stories told in simulated time, with faults drawn from a seed.

The operator is the real one, from its queue to its clients' retries; the servers are the models of
`tests/models`. Nothing here decides what must hold: that is `checks` and `tests.faults.invariants`.
"""
