-- 3 -> 4: status tells a person's note from an error, says what became of a lost holder, and names the idempotency key that the
-- other side was given; a step that waits for the outside says so by its reason, whatever its error is called.

UPDATE docket.result SET reason = 'waiting' WHERE state = 'ready' AND error_type = 'WaitingFor';

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
       CASE WHEN r.state IN ('doubt', 'refused') OR r.error_type IS NOT NULL
                 THEN coalesce(r.error_type || ': ' || r.error_text, r.error_type, r.error_text, r.reason)
            WHEN r.state = 'running' AND r.lease_until < clock_timestamp()
                 THEN r.owner || ' was last heard of before its lease ended, ' || r.lease_until
            END                                       AS last_error,
       CASE WHEN r.state = 'doubt' OR (r.state = 'running' AND r.lease_until < clock_timestamp() AND r.mode <> 'at_least_once')
                 THEN 'its reconcile function, or a person: settle or release'
            WHEN r.state = 'running' AND r.lease_until < clock_timestamp() THEN 'the next attempt'
            WHEN r.state = 'running' THEN 'its holder, lease until ' || r.lease_until
            WHEN r.state = 'ready' AND r.reason = 'waiting' THEN 'a value from outside, and then the next attempt'
            WHEN r.state IN ('ready', 'superseded') THEN 'the next attempt' END AS waiting_for,
       r.mode,
       r.token,
       CASE WHEN r.state NOT IN ('doubt', 'refused') AND r.error_type IS NULL THEN r.error_text END AS note,
       r.run_id || '/' || r.key                       AS idempotency_key
FROM docket.result r;

INSERT INTO docket.version (version) VALUES (4);
