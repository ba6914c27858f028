-- Jobs beside results: "why is this order stuck?" stays one SELECT when a queue is part of the answer.
--
--   SELECT * FROM docket.pgqueuer_run_status WHERE run_id = 'order-1042';
--
-- Apply it once, in the database that holds both Docket's tables and PgQueuer's; it may be applied again at any time:
--
--   python -m docket_pgqueuer | psql "$DATABASE_URL"
--
-- If Docket's tables are in a schema of another name, add --schema and that. PgQueuer's are looked for by their default names.
--
-- PgQueuer deletes a job that is over, unless it is held as failed; what is known then stands in its log, and of a job that
-- simply succeeded the log does not say whose it was.

-- One row per job that carries a run: where it stands, how its last attempt ended, what it waits for.
CREATE OR REPLACE VIEW docket.pgqueuer_job AS
SELECT j.run_id, j.target, j.queue, j.job_id,
       CASE WHEN j.lost THEN 'worker lost'
            WHEN j.status = 'queued' AND j.attempts = 0 THEN 'enqueued'
            WHEN j.status = 'queued' THEN 'to be tried again'
            WHEN j.status = 'picked' THEN 'running'
            WHEN j.status = 'successful' AND j.last_error IS NOT NULL THEN 'waiting'
            WHEN j.status = 'successful' THEN 'succeeded'
            WHEN j.status = 'canceled' THEN 'cancelled'
            ELSE j.status END AS state,
       j.attempts, j.last_error, j.since,
       CASE WHEN j.lost THEN 'the next worker of queue ' || j.queue
            WHEN j.status = 'queued' AND j.execute_after > clock_timestamp() THEN 'its time, ' || j.execute_after
            WHEN j.status = 'queued' THEN 'a worker of queue ' || j.queue
            WHEN j.status = 'picked' THEN 'its attempt, in worker ' || j.queue_manager_id
            WHEN j.status = 'successful' AND j.last_error IS NOT NULL THEN 'the outside: supply and enqueue again'
            WHEN j.status = 'failed' THEN 'a person: mend the cause and enqueue again' END AS waiting_for
FROM (SELECT coalesce(q.headers ->> 'run_id', l.traceback #>> '{additional_context,run_id}') AS run_id,
             coalesce(q.headers ->> 'target', l.traceback #>> '{additional_context,target}') AS target,
             coalesce(q.entrypoint, l.entrypoint)                                            AS queue,
             coalesce(q.id, l.job_id)                                                        AS job_id,
             coalesce(q.status, l.status)::text                                              AS status,
             coalesce(q.attempts, 0)                                                         AS attempts,
             l.traceback ->> 'exception_message'                                             AS last_error,
             l.created                                                                       AS since,
             q.execute_after, q.queue_manager_id,
             coalesce(q.status::text = 'picked' AND q.heartbeat < clock_timestamp() - interval '30 s', false) AS lost
      FROM pgqueuer q
      FULL JOIN (SELECT DISTINCT ON (job_id) job_id, entrypoint, status, traceback, created
                 FROM pgqueuer_log ORDER BY job_id, created DESC, id DESC) l ON l.job_id = q.id
      WHERE q.headers ? 'run_id' OR l.traceback #>> '{additional_context,run_id}' IS NOT NULL) j;

-- Results and jobs of a run, one below the other.
CREATE OR REPLACE VIEW docket.pgqueuer_run_status AS
SELECT s.run_id, 'result' AS what, s.key, s.state::text, s.since, s.attempt, s.last_error, s.waiting_for
FROM docket.status s
UNION ALL
SELECT j.run_id, 'job ' || j.job_id || ' on ' || j.queue, j.target, j.state, j.since, j.attempts, j.last_error, j.waiting_for
FROM docket.pgqueuer_job j;

-- They tell no more than docket.status does, so every role of roles.sql may read them; apply this file again if those are made
-- later.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT rolname FROM pg_catalog.pg_roles
                WHERE rolname IN ('docket_worker', 'docket_reader', 'docket_operator', 'docket_janitor') LOOP
        EXECUTE format('GRANT SELECT ON docket.pgqueuer_job, docket.pgqueuer_run_status TO %I', name);
    END LOOP;
END $$;
