"""Orders while everything around them crashes: ``python -m benchmarks.crashes``.

Three records are kept apart and compared afterwards: the ledger (what the steps did to the outside world), the rows (what the
database says happened) and the answers (what callers were told).

    world        the steps of an order, and the ledger they write
    worker       one process that runs orders
    crew         the processes, and who works on which order
    faults       what is done to them
    campaign     one kind of fault until the time is up, the operator's decisions, and a quiet end
    invariants   what must be true of the three records
    wrong        caches with a mistake in them, which must be found out
"""
