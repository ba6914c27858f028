-- Jobs beside results: "why is this order stuck?" stays one SELECT when a queue is part of the answer.
--
--   SELECT * FROM docket.run_status WHERE run_id = 'order-1042';
--
-- Apply it once, in the database that holds both Docket's tables and Procrastinate's; it may be applied again at any time:
--
--   python -m docket_procrastinate | psql "$DATABASE_URL"
--
-- If Docket's tables are in a schema of another name, add --schema and that.
--
-- A job's row holds in its arguments the run_id, the target, the inputs (body is what is worked with, view is for reading), and
-- the outcome of its last attempt: what (again, later, wait, fail, cancelled, lost), why, at; free counts the attempts that do
-- not count against the limit, lost how often its worker died.
--
-- Procrastinate keeps finished jobs until they are removed (its manual, "Delete finished jobs"). If you keep many, this index makes
-- the views fast for one run, at the price of an index entry per job:
--
--   CREATE INDEX CONCURRENTLY docket_job_run_id ON procrastinate_jobs ((args ->> 'run_id')) WHERE task_name = 'docket.run';

-- One row per job that carries a run: where it stands, how its last attempt ended, what it waits for.
CREATE OR REPLACE VIEW docket.job AS
SELECT j.args ->> 'run_id'            AS run_id,
       j.args ->> 'target'            AS target,
       j.queue_name                   AS queue,
       j.id                           AS job_id,
       CASE WHEN j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < clock_timestamp() - interval '30 s')
            THEN 'worker lost'
            WHEN j.status = 'succeeded' AND j.args #>> '{outcome,what}' = 'wait' THEN 'waiting'
            WHEN j.status = 'todo' AND j.attempts = 0 THEN 'enqueued'
            WHEN j.status = 'todo' THEN 'to be tried again'
            WHEN j.status = 'doing' THEN 'running'
            ELSE j.status::text END   AS state,
       (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type <> 'scheduled') AS since,
       j.attempts,
       j.args #>> '{outcome,why}'     AS last_error,
       CASE WHEN j.status = 'todo' AND j.scheduled_at > clock_timestamp() THEN 'its time, ' || j.scheduled_at
            WHEN j.status = 'todo' THEN 'a worker of queue ' || j.queue_name
            WHEN j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < clock_timestamp() - interval '30 s')
            THEN 'the rescue, in any worker'
            WHEN j.status = 'doing' THEN 'its attempt, in worker ' || j.worker_id
            WHEN j.status = 'succeeded' AND j.args #>> '{outcome,what}' = 'wait' THEN 'the outside: supply and enqueue again'
            WHEN j.status = 'failed' THEN 'a person: mend the cause and enqueue again' END AS waiting_for
FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.task_name = 'docket.run';

-- Results and jobs of a run, one below the other.
CREATE OR REPLACE VIEW docket.run_status AS
SELECT s.run_id, 'result' AS what, s.key, s.state::text, s.since, s.attempt, s.last_error, s.waiting_for
FROM docket.status s
UNION ALL
SELECT j.run_id, 'job ' || j.job_id || ' on ' || j.queue, j.target, j.state, j.since, j.attempts, j.last_error, j.waiting_for
FROM docket.job j;

-- They tell no more than docket.status does, so every role of roles.sql may read them; apply this file again if those are made
-- later.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT rolname FROM pg_catalog.pg_roles
                WHERE rolname IN ('docket_worker', 'docket_reader', 'docket_operator', 'docket_janitor') LOOP
        EXECUTE format('GRANT SELECT ON docket.job, docket.run_status TO %I', name);
    END LOOP;
END $$;
