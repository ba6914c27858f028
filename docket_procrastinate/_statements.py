"""What the driver says to Procrastinate's table, and why not through its functions.

Procrastinate's function for enqueueing raises on a duplicate, which would abort the caller's transaction; a savepoint around
it costs two round trips. (Where there is no such transaction, many jobs are enqueued by a statement that raises as well: all
or none.) Its function for retrying counts every retry as an attempt, and keeps no reason. The columns used
here are those of its versioned composite type, plus ``status``, ``attempts`` and ``worker_id``.

Parameters are written ``%(name)s``, as Procrastinate writes them, so that either connector can send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from docket.queue import Job

TASK = "docket.run"
"""The name of the one task that every job carries; what to run stands in the job's arguments."""

_MANY = """
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, scheduled_at, args)
SELECT job.queue, %(task)s::text, job.priority, job.lock, job.due, job.document::jsonb
FROM unnest(%(queues)s::text[], %(priorities)s::int[], %(locks)s::text[], %(dues)s::timestamptz[], %(documents)s::text[])
     WITH ORDINALITY AS job (queue, priority, lock, due, document, place)
ORDER BY job.place
"""
_SKIP = "ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING\n"
_ADDED = "RETURNING id, args ->> 'run_id' AS run_id, args ->> 'target' AS target\n"

ENQUEUE = _MANY + _ADDED
ENQUEUE_SKIPPING = _MANY + _SKIP + _ADDED

ENQUEUE_ONE = """
INSERT INTO procrastinate_jobs (task_name, queue_name, priority, queueing_lock, scheduled_at, args)
VALUES (%(task)s, %(queue)s, %(priority)s, %(lock)s, %(due)s, %(document)s::text::jsonb)
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
RETURNING id
"""

ENQUEUE_ONE_ONCE = ENQUEUE_ONE + "-- The job has a lock, so this may be sent twice.\n"
ENQUEUE_ONCE = ENQUEUE + "-- Every job has a lock, so this may be sent twice.\n"

WAITING = """
SELECT id, queue_name, queueing_lock AS lock, args::text AS document FROM procrastinate_jobs
WHERE status = 'todo' AND queueing_lock = ANY(%(locks)s::text[])
"""

TAKE_BACK = "DELETE FROM procrastinate_jobs WHERE id = ANY(%(ids)s::bigint[]) RETURNING id"

# Fenced by the attempt, so that a worker that was presumed dead says nothing about its successor's attempt. Returns the job
# that holds the queueing lock meanwhile: this one could not go back into the queue beside it.
NOTE = """
WITH noted AS (
  UPDATE procrastinate_jobs AS job
  SET args = job.args || jsonb_build_object('outcome', %(outcome)s::jsonb || jsonb_build_object(
    'at', clock_timestamp(), 'epoch', extract(epoch FROM clock_timestamp())))
  WHERE job.id = %(job_id)s AND job.status = 'doing' AND job.attempts = %(attempts)s
  RETURNING job.queueing_lock)
SELECT other.id FROM noted JOIN procrastinate_jobs AS other
  ON other.queueing_lock = noted.queueing_lock AND other.status = 'todo'
"""

CANCEL = """
SELECT procrastinate_cancel_job_v1(job.id, true, false) AS id FROM procrastinate_jobs AS job
WHERE job.status IN ('todo', 'doing') AND job.task_name = %(task)s
  AND job.args ->> 'run_id' = %(run_id)s AND job.args ->> 'target' = %(target)s
"""

# A job is taken from a worker that is gone or has not been heard of, and from one that ended its attempt without telling the
# queue (the note stands, the status does not follow). Nothing a forged row may hold can make a cast fail. One that cannot be
# put back because a second job for the same run waits is over: the other does its work.
RESCUE = """
UPDATE procrastinate_jobs AS job SET
  status = (CASE
    WHEN lost.forged THEN 'failed'
    WHEN job.abort_requested OR (lost.ended AND lost.what = 'cancelled') THEN 'aborted'
    WHEN lost.ended AND lost.what = 'fail' THEN 'failed'
    WHEN lost.ended AND lost.what = 'wait' THEN 'succeeded'
    WHEN NOT lost.ended AND lost.times > %(rescues)s::int THEN 'failed'
    WHEN lost.doubled THEN 'aborted'
    ELSE 'todo' END)::procrastinate_job_status,
  abort_requested = false,
  attempts = job.attempts + 1,
  scheduled_at = clock_timestamp(),
  args = CASE WHEN lost.forged OR lost.ended THEN job.args ELSE job.args || jsonb_build_object('outcome', jsonb_build_object(
    'what', CASE WHEN lost.times > %(rescues)s::int THEN 'fail' ELSE 'lost' END,
    'why', CASE WHEN lost.times > %(rescues)s::int
      THEN 'lost its worker ' || lost.times || ' times: it may be what kills them'
      ELSE 'its worker was lost' END,
    'attempt', job.attempts + 1, 'free', lost.free + 1, 'lost', lost.times,
    'at', clock_timestamp(), 'epoch', extract(epoch FROM clock_timestamp()))) END
FROM (
  SELECT one.id, one.forged, one.ended, one.what, one.free, one.times,
         one.queueing_lock IS NOT NULL AND (
           row_number() OVER (PARTITION BY one.queueing_lock ORDER BY one.id) > 1
           OR EXISTS (SELECT FROM procrastinate_jobs AS other
                      WHERE other.queueing_lock = one.queueing_lock AND other.status = 'todo')) AS doubled
  FROM (
    SELECT doing.id, doing.queueing_lock, jsonb_typeof(doing.args) <> 'object' AS forged,
           coalesce(doing.args #>> '{outcome,attempt}' = (doing.attempts + 1)::text, false) AS ended,
           doing.args #>> '{outcome,what}' AS what,
           CASE WHEN doing.args #>> '{outcome,free}' ~ '^[0-9]{1,6}$' THEN (doing.args #>> '{outcome,free}')::int
                ELSE 0 END AS free,
           CASE WHEN doing.args #>> '{outcome,lost}' ~ '^[0-9]{1,6}$' THEN (doing.args #>> '{outcome,lost}')::int
                ELSE 0 END + 1 AS times
    FROM procrastinate_jobs AS doing LEFT JOIN procrastinate_workers AS worker ON worker.id = doing.worker_id
    WHERE doing.status = 'doing' AND doing.task_name = %(task)s
      AND (worker.id IS NULL
           OR worker.last_heartbeat < clock_timestamp() - make_interval(secs => %(after)s)
           OR jsonb_typeof(doing.args) <> 'object'
           OR (doing.args #>> '{outcome,attempt}' = (doing.attempts + 1)::text
               AND CASE WHEN jsonb_typeof(doing.args #> '{outcome,epoch}') = 'number'
                        THEN (doing.args #>> '{outcome,epoch}')::numeric ELSE 0 END
                   < extract(epoch FROM clock_timestamp()) - 4 * %(after)s))
    ORDER BY doing.id LIMIT 1000
    FOR UPDATE OF doing SKIP LOCKED
  ) AS one
) AS lost
WHERE job.id = lost.id
RETURNING job.id, job.status::text AS status, job.args ->> 'run_id' AS run_id, job.args #>> '{outcome,why}' AS why
"""

QUERIES = {
    "docket_enqueue": ENQUEUE,
    "docket_enqueue_once": ENQUEUE_ONCE,
    "docket_enqueue_one": ENQUEUE_ONE,
    "docket_enqueue_one_once": ENQUEUE_ONE_ONCE,
    "docket_waiting": WAITING,
    "docket_note": NOTE,
    "docket_cancel": CANCEL,
    "docket_rescue": RESCUE,
}
"""By name, for the connector's rules and messages."""


def enqueueing(jobs: Sequence[Job], *, skip: bool = False) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement that enqueues *jobs*, and its arguments; with *skip* it passes over those that wait already."""
    at_once = ENQUEUE_ONCE if all(job.once for job in jobs) else ENQUEUE
    return ENQUEUE_SKIPPING if skip else at_once, {
        "task": TASK,
        "queues": [job.queue for job in jobs],
        "priorities": [job.priority for job in jobs],
        "locks": [job.name if job.once else None for job in jobs],
        "dues": [job.schedule_at for job in jobs],
        "documents": [job.document() for job in jobs],
    }


def enqueueing_one(job: Job) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement that enqueues one *job*, a quarter cheaper than the one for many, and its arguments."""
    return ENQUEUE_ONE_ONCE if job.once else ENQUEUE_ONE, {
        "task": TASK,
        "queue": job.queue,
        "priority": job.priority,
        "lock": job.name if job.once else None,
        "due": job.schedule_at,
        "document": job.document(),
    }
