"""Which of Procrastinate's statements may be sent again when an outage leaves it unknown whether they took effect.

Pure: no I/O here. A statement that was certainly not carried out may always be sent again; the rules below are for
the others, whose answer was lost. The page for people is the docstring of `AsyncpgConnector`.
"""

import enum
import time
from collections.abc import Mapping
from typing import Any

from procrastinate import sql

from docket_procrastinate._statements import QUERIES
from docket_procrastinate._translate import args_as_text


class Repeat(enum.Enum):
    """How a statement whose answer was lost is repeated."""

    NEVER = "the caller is told: a second time would do something else"
    ALWAYS = "reads, and writes that are the same twice"
    LOCKED = "enqueueing: only if every job has a queueing lock"
    LOOK_FIRST = "fetching: the job that the lost answer named is looked for before another is fetched"
    FENCED = "ending a job: only while it is in the very attempt that is being ended"
    AT_ONCE = "asked to say how the database is now: not even waited for"


_RULES: Mapping[str, Repeat] = {
    "defer_jobs": Repeat.LOCKED,
    # Unique by (task, periodic id, timestamp): a repeat finds the first and says "already deferred".
    "defer_periodic_job": Repeat.ALWAYS,
    "fetch_job": Repeat.LOOK_FIRST,
    "finish_job": Repeat.FENCED,
    "retry_job": Repeat.FENCED,
    # A repeat would say "nothing to cancel" of the job that the first one cancelled.
    "cancel_job": Repeat.NEVER,
    "check_connection": Repeat.AT_ONCE,
    # The first one's row, if there is one, sends no heartbeat and is pruned by the next worker that starts.
    "register_worker": Repeat.ALWAYS,
    "unregister_worker": Repeat.ALWAYS,
    "update_heartbeat": Repeat.ALWAYS,
    "prune_stalled_workers": Repeat.ALWAYS,
    "delete_old_jobs": Repeat.ALWAYS,
    "select_stalled_jobs_by_started": Repeat.ALWAYS,
    "select_stalled_jobs_by_heartbeat": Repeat.ALWAYS,
    "get_job_status": Repeat.ALWAYS,
    "count_jobs_status": Repeat.ALWAYS,
    "list_jobs": Repeat.ALWAYS,
    "list_queues": Repeat.ALWAYS,
    "list_tasks": Repeat.ALWAYS,
    "list_locks": Repeat.ALWAYS,
    "list_jobs_to_abort": Repeat.ALWAYS,
    # The driver's own. A repeat of the first would enqueue again, one of the third would say "nothing to cancel".
    "docket_enqueue": Repeat.NEVER,
    "docket_enqueue_once": Repeat.ALWAYS,
    "docket_enqueue_one": Repeat.NEVER,
    "docket_enqueue_one_once": Repeat.ALWAYS,
    "docket_cancel": Repeat.NEVER,
    "docket_waiting": Repeat.ALWAYS,
    "docket_note": Repeat.ALWAYS,
    "docket_rescue": Repeat.ALWAYS,
}

_NAMES: Mapping[str, str] = {text: name for name, text in (*sql.queries.items(), *QUERIES.items())}

# Work proportional to the tables, not to one job: no sensible limit on a single statement holds for it.
_LONG = frozenset({"delete_old_jobs"})


def name_of(query: str) -> str:
    """Return Procrastinate's name of *query*, or ``"a statement"`` for one that is not its own (its schema, say)."""
    return _NAMES.get(query, "a statement")


def is_known(query: str) -> bool:
    """Tell whether *query* is one of Procrastinate's or of this package's, not one of the user's or the schema."""
    return query in _NAMES


def rule_for(query: str) -> Repeat:
    """Return how *query* is repeated; a statement nobody has thought through is `Repeat.NEVER`."""
    return _RULES.get(_NAMES.get(query, ""), Repeat.NEVER)


def is_long(query: str) -> bool:
    """Tell whether *query* may take longer than a statement about one job: clean-ups, the schema, unknown ones."""
    name = _NAMES.get(query)
    return name is None or name in _LONG


def fenced(query: str) -> str:
    """Return *query*, which ends a job, so that it does nothing unless the job is in attempt ``%(attempts)s``.

    Procrastinate counts an attempt whenever a job leaves ``doing``, so (id, attempts, ``doing``) names one execution:
    a first try that took effect, a rescue by another worker and a later execution all fall outside.
    """
    return (
        query.rstrip().rstrip(";")
        + " FROM procrastinate_jobs WHERE id = %(job_id)s AND status = 'doing' AND attempts = %(attempts)s"
    )


def lost_fetch(query: str) -> str:
    """Return a query with the columns of *query*, which fetches a job, for one that was fetched and never arrived.

    It finds the oldest job in ``doing`` under worker ``%(worker_id)s`` that is not among ``%(known)s``.
    """
    columns = args_as_text(query[: query.index("FROM")])
    return (
        columns + "FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker_id)s "
        "AND NOT (id = ANY(%(known)s::bigint[])) ORDER BY id LIMIT 1"
    )


class HandedOut:
    """The jobs that this process's workers hold, as far as the statements sent through one connector tell.

    It is what makes a lost answer answerable: a job in ``doing`` under our worker that is not in here was fetched by a
    statement whose answer never came.
    """

    # Longer than a statement may take: until then a fetch that was cut off may still take effect on the server.
    _DOUBT_SECONDS = 60.0

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[int, int]] = {}  # job id: (worker id, attempts)
        self._doubted: dict[int, float] = {}  # worker id: monotonic seconds until which to look

    def note(self, row: Mapping[str, Any], worker_id: int) -> None:
        """Remember the job in *row* as held by *worker_id*; a row without an id means that there was none."""
        if row["id"] is not None:
            self._jobs[row["id"]] = (worker_id, row["attempts"])

    def attempts(self, job_id: int) -> int | None:
        """Return the attempts the job had made when it was handed out, None if it was not handed out here."""
        held = self._jobs.get(job_id)
        return None if held is None else held[1]

    def known(self, worker_id: int) -> list[int]:
        """Return the ids of the jobs that *worker_id* holds."""
        return [job_id for job_id, (holder, _) in self._jobs.items() if holder == worker_id]

    def ended(self, job_id: int) -> None:
        """Forget a job that was finished or handed back."""
        self._jobs.pop(job_id, None)

    def doubt(self, worker_id: int) -> None:
        """Remember that the answer to a fetch of *worker_id* was lost."""
        self._doubted[worker_id] = time.monotonic() + self._DOUBT_SECONDS

    def in_doubt(self, worker_id: int) -> bool:
        """Tell whether a job may have been fetched for *worker_id* that never arrived."""
        until = self._doubted.get(worker_id)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        del self._doubted[worker_id]
        return False

    def left(self, worker_id: int) -> None:
        """Forget a worker that has stopped, and its jobs."""
        self._doubted.pop(worker_id, None)
        for job_id in self.known(worker_id):
            del self._jobs[job_id]
