"""Docket's driver for PgQueuer."""

from docket_pgqueuer.queue import JobFailed, PgQueuerQueue

__all__ = ["JobFailed", "PgQueuerQueue"]
