-- 2 -> 3: the journal names the login that wrote each row; status calls an effect whose holder was lost what it is.

ALTER TABLE docket.journal ADD COLUMN login text NOT NULL DEFAULT session_user;

CREATE OR REPLACE VIEW docket.status AS
SELECT r.run_id,
       r.key,
       CASE WHEN r.state = 'doubt' OR (r.state = 'running' AND r.lease_until < clock_timestamp() AND r.mode <> 'at_least_once')
                 THEN 'in doubt'
            WHEN r.state = 'running' AND r.lease_until < clock_timestamp() THEN 'holder lost'
            ELSE r.state END                          AS state,
       r.changed_at                                   AS since,
       r.attempt,
       r.owner,
       coalesce(r.error_type || ': ' || r.error_text, r.error_type, r.error_text, r.reason) AS last_error,
       CASE WHEN r.state = 'doubt' OR (r.state = 'running' AND r.lease_until < clock_timestamp() AND r.mode <> 'at_least_once')
                 THEN 'its reconcile function, or a person: settle or release'
            WHEN r.state = 'running' AND r.lease_until < clock_timestamp() THEN 'the next attempt'
            WHEN r.state = 'running' THEN 'its holder, lease until ' || r.lease_until
            WHEN r.state = 'ready' AND r.error_type = 'WaitingFor' THEN 'a value from outside, and then the next attempt'
            WHEN r.state IN ('ready', 'superseded') THEN 'the next attempt' END AS waiting_for,
       r.mode,
       r.token
FROM docket.result r;

INSERT INTO docket.version (version) VALUES (3);
