-- Docket's tables. Read this first; it is all there is.
--
-- Docket runs steps: functions whose results others need. A step marked with cache_result has its result kept here, as one row of
-- docket.result, named by the run (your id for the business case) and the key (the type that the step gives). Steps
-- without the mark leave no trace: they are run again when they are needed.
--
--   result    what is known about one result of one run. One row per (run_id, key), which moves between these states:
--
--               running     somebody claimed it and is at work; lease_until says how long we believe in them
--               certified   done: body holds the exact bytes, view the same as JSON for you to query
--               refused     the step gave a final "no" (error_text says why); it is not asked again
--               doubt       an at-most-once step was started and nobody knows how it ended. Docket never starts it again by
--                           itself. Find out what happened, then settle (it did, this is the result) or release (it did not)
--               ready       may be started (again): it failed without effect, or a person released it
--               superseded  invalidated by a person; will be made again when it is needed; the old value is in the journal
--               purged      the value was deleted by retention; the row stays, so that an old job cannot repeat the effect
--
--             A row whose mode is input is no step's result but a value that was supplied from outside: an approval, say.
--
--   input     the values that certified results were made from, so that the same run id with another request is noticed and a
--             retry sees what the first attempt saw. Insert-only, named by their digest.
--   journal   what went wrong and who decided what: failures, doubts, settlements, releases, invalidations, and results that
--             came too late to be the certificate (body). Insert-only. A run that goes well leaves nothing here.
--   version   the version of these tables.
--
-- Why is this order stuck?      SELECT * FROM docket.status WHERE run_id = 'order-1042';
-- What needs a person?          SELECT * FROM docket.status WHERE state = 'in doubt';
--
-- A row is changed only by whoever holds its token and claim: the token grows with every claim, settlement and release, so
-- a process that was frozen and wakes up too late changes nothing. Leases are on this database's clock. Deleting a row of
-- docket.result by hand allows its effect to happen again: delete whole runs, and only those that are over.
--
-- Nothing here needs an extension, a trigger, a sequence, a foreign key or a function. Every key begins with run_id, so the
-- tables may be hash-partitioned or distributed by it. Keys are COLLATE "C": a new version of the C library must not be able
-- to corrupt the index that "at most once" rests on.
--
-- To leave Docket: keep the tables. body is the plain serialized message (protobuf by default), view is JSON.

CREATE SCHEMA IF NOT EXISTS docket;

CREATE TABLE docket.result (
    run_id       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,           -- the storage key of the type, e.g. orders.ChargeResult
    mode         text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL,
    token        bigint      NOT NULL DEFAULT 1,      -- fencing token: only ever grows
    claim        uuid        NOT NULL,                -- nonce of the claim or write that owns the token
    owner        text        NOT NULL DEFAULT '',     -- host, process: for people, never for logic
    attempt      integer     NOT NULL DEFAULT 1,      -- claims since the last release
    lease_until  timestamptz,
    made_from    jsonb       NOT NULL DEFAULT '{}',   -- digests of inputs and certified results, versions of steps
    serializer   text        COLLATE "C",             -- who wrote body
    type         text        COLLATE "C",             -- what body is
    body         bytea,                               -- the truth
    view         jsonb,                               -- the same for people and SQL; never read back
    blob         jsonb,                               -- where the truth is if it is large: uri, sha256, size in bytes
    reason       text,
    error_type   text,
    error_text   text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    certified_at timestamptz,
    PRIMARY KEY (run_id, key),
    CONSTRAINT result_run_id_length CHECK (octet_length(run_id) BETWEEN 1 AND 255),
    CONSTRAINT result_key_length CHECK (octet_length(key) BETWEEN 1 AND 255),
    CONSTRAINT result_mode CHECK (mode IN ('at_least_once', 'at_most_once', 'transactional', 'input')),
    CONSTRAINT result_state CHECK (
        state IN ('running', 'certified', 'refused', 'doubt', 'ready', 'superseded', 'purged')),
    CONSTRAINT result_token CHECK (token > 0 AND attempt >= 0),
    CONSTRAINT result_lease_while_running CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT result_value_when_certified CHECK (
        num_nonnulls(body, blob) = (state = 'certified')::integer
        AND (state = 'certified') = (serializer IS NOT NULL)
        AND (state = 'certified') = (type IS NOT NULL)
        AND (state <> 'certified' OR certified_at IS NOT NULL)),
    CONSTRAINT result_view_is_of_value CHECK (view IS NULL OR state = 'certified'),
    CONSTRAINT result_blob_says_where CHECK (blob IS NULL OR blob ?& ARRAY['uri', 'sha256', 'size']),
    CONSTRAINT result_refusal_says_why CHECK (state <> 'refused' OR error_type IS NOT NULL),
    CONSTRAINT result_doubt_says_why CHECK (state <> 'doubt' OR reason IS NOT NULL)
) WITH (fillfactor = 85);                             -- claims are updated in place once

-- The rows that may need somebody; certified ones, nearly all, are not in it.
CREATE INDEX result_open ON docket.result (state, changed_at) WHERE state IN ('running', 'doubt');

-- The rows that retention looks through, oldest first.
CREATE INDEX result_over ON docket.result (changed_at) WHERE state IN ('certified', 'refused', 'superseded');

CREATE TABLE docket.input (
    run_id      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    digest      text COLLATE "C" NOT NULL,            -- sha256 of body, hexadecimal
    serializer  text COLLATE "C" NOT NULL,
    body        bytea NOT NULL,
    view        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, key, digest)
);

CREATE TABLE docket.journal (
    run_id     text COLLATE "C" NOT NULL,
    id         uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    key        text COLLATE "C" NOT NULL,
    event      text COLLATE "C" NOT NULL,
    token      bigint NOT NULL,
    owner      text NOT NULL DEFAULT '',              -- who says to have done it
    login      text NOT NULL DEFAULT session_user,    -- who was logged in; with roles.sql nobody can say otherwise
    detail     text,                                  -- an error's redacted text, or a person's note
    serializer text COLLATE "C",
    type       text COLLATE "C",
    body       bytea,                                 -- a stray or superseded result
    blob       jsonb,                                 -- where it is if it is large
    PRIMARY KEY (run_id, id)
);

CREATE TABLE docket.version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO docket.version (version) VALUES (4);

-- One row per run and key, in words: what stands, since when, and what it waits for.
CREATE VIEW docket.status AS
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
