"""Jobs of dead workers are put back.

Procrastinate finds the jobs of a killed worker and leaves them where they are. Its manual asks for a periodic task; an
ordinary one would run only where its own queue is worked, so this one does its work at the moment at which the worker would
enqueue it: in every worker, whatever its queues, at every tick. All workers may do it at once: each job is taken by one.
"""

from __future__ import annotations

import logging
from typing import Any

import procrastinate
from procrastinate import jobs, manager, tasks

from docket_procrastinate._statements import RESCUE, TASK

_log = logging.getLogger("docket_procrastinate")

NAME = "docket.rescue"
"""The periodic task's name. No job ever carries it."""


def rescue_periodically(app: procrastinate.App, cron: str, after: float, rescues: int) -> None:
    """Have every worker of *app* put back the jobs of dead workers.

    Args:
        app: The app.
        cron: When to look.
        after: Seconds without a heartbeat after which a worker counts as dead.
        rescues: A job that lost its worker more often than this fails for good.
    """
    rescue = _Rescue(_never, blueprint=app, name=NAME, queue="")
    rescue.rescuer = _Rescuer(app, after, rescues)
    app.periodic_registry.register_task(rescue, cron, NAME, {})


async def _never(timestamp: int) -> None:
    """Stand in for the body of a task that is never enqueued."""


class _Rescue(tasks.Task[[int], Any, [int]]):
    """A periodic task that is carried out where others are enqueued."""

    rescuer: _Rescuer

    def configure(self, **options: Any) -> jobs.JobDeferrer:
        arguments = options["task_kwargs"]
        job = jobs.Job(id=None, lock=None, queueing_lock=None, task_name=self.name, queue="", task_kwargs=arguments)
        return jobs.JobDeferrer(job=job, job_manager=self.rescuer)


class _Rescuer(manager.JobManager):
    def __init__(self, app: procrastinate.App, after: float, rescues: int) -> None:
        super().__init__(app.connector)
        self._app = app
        self._arguments = {"task": TASK, "after": float(after), "rescues": rescues}

    async def defer_periodic_job(self, job: jobs.Job, periodic_id: str, defer_timestamp: int) -> int | None:  # noqa: ARG002
        try:
            # The app's connector of this moment: tests replace it.
            rows = await self._app.connector.execute_query_all_async(RESCUE, **self._arguments)
        except Exception:
            # An error here would stop the worker; the next tick, or another worker, tries again.
            _log.exception("looking for the jobs of dead workers failed; trying again at the next tick")
            return None
        for row in rows:
            level = logging.WARNING if row["status"] == "todo" else logging.ERROR
            where = {"job": row["id"], "run_id": row["run_id"], "status": row["status"]}
            _log.log(level, "job %s was left behind and is %s now: %s", row["id"], row["status"], row["why"], extra=where)
        return None
