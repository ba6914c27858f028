-- Where the jobs of a run stand in PgQueuer, and why: SELECT * FROM docket.pgqueuer_job WHERE run_id = 'order-1042';
-- For PgQueuer's default table names. It may be applied again at any time.
CREATE OR REPLACE VIEW docket.pgqueuer_job AS
SELECT coalesce(q.headers ->> 'run_id', l.traceback #>> '{additional_context,run_id}') AS run_id,
       coalesce(q.headers ->> 'target', l.traceback #>> '{additional_context,target}') AS target,
       coalesce(q.entrypoint, l.entrypoint)                                            AS queue,
       coalesce(q.id, l.job_id)                                                        AS job_id,
       coalesce(q.status, l.status)::text                                              AS state,
       coalesce(q.attempts, 0)                                                         AS attempts,
       l.traceback ->> 'exception_message'                                             AS last_error,
       l.created                                                                       AS since
FROM pgqueuer q
FULL JOIN (SELECT DISTINCT ON (job_id) job_id, entrypoint, status, traceback, created
           FROM pgqueuer_log ORDER BY job_id, created DESC, id DESC) l ON l.job_id = q.id
WHERE q.headers ? 'run_id' OR l.traceback #>> '{additional_context,run_id}' IS NOT NULL;
