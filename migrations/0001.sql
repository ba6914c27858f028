-- 0 -> 1: the first tables. The essay at the head of schema.sql says what they are.

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
    reason       text,
    error_type   text,
    error_text   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now(),
    certified_at timestamptz,
    PRIMARY KEY (run_id, key),
    CONSTRAINT result_run_id_length CHECK (octet_length(run_id) BETWEEN 1 AND 255),
    CONSTRAINT result_key_length CHECK (octet_length(key) BETWEEN 1 AND 255),
    CONSTRAINT result_mode CHECK (mode IN ('at_least_once', 'at_most_once', 'transactional', 'input')),
    CONSTRAINT result_state CHECK (
        state IN ('running', 'certified', 'refused', 'doubt', 'ready', 'superseded', 'purged')),
    CONSTRAINT result_token CHECK (token > 0 AND attempt >= 0),
    CONSTRAINT result_lease_while_running CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT result_body_when_certified CHECK (
        (state = 'certified') = (body IS NOT NULL)
        AND (state = 'certified') = (serializer IS NOT NULL)
        AND (state = 'certified') = (type IS NOT NULL)
        AND (state <> 'certified' OR certified_at IS NOT NULL)),
    CONSTRAINT result_view_is_of_body CHECK (view IS NULL OR body IS NOT NULL),
    CONSTRAINT result_refusal_says_why CHECK (state <> 'refused' OR error_type IS NOT NULL),
    CONSTRAINT result_doubt_says_why CHECK (state <> 'doubt' OR reason IS NOT NULL)
) WITH (fillfactor = 85);                             -- claims are updated in place once

-- The rows that may need somebody; certified ones, nearly all, are not in it.
CREATE INDEX result_open ON docket.result (state, changed_at) WHERE state IN ('running', 'doubt');

CREATE TABLE docket.input (
    run_id      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    digest      text COLLATE "C" NOT NULL,            -- sha256 of body, hexadecimal
    serializer  text COLLATE "C" NOT NULL,
    body        bytea NOT NULL,
    view        jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, key, digest)
);

CREATE TABLE docket.journal (
    run_id     text COLLATE "C" NOT NULL,
    id         uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    key        text COLLATE "C" NOT NULL,
    event      text COLLATE "C" NOT NULL,
    token      bigint NOT NULL,
    owner      text NOT NULL DEFAULT '',
    detail     text,                                  -- an error's redacted text, or a person's note
    serializer text COLLATE "C",
    type       text COLLATE "C",
    body       bytea,                                 -- a stray or superseded result
    PRIMARY KEY (run_id, id)
);

CREATE TABLE docket.version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO docket.version (version) VALUES (1);

-- One row per run and key, in words: what stands, since when, and what it waits for.
CREATE VIEW docket.status AS
SELECT r.run_id,
       r.key,
       CASE WHEN r.state = 'running' AND r.lease_until < clock_timestamp() THEN 'holder lost'
            WHEN r.state = 'doubt' THEN 'in doubt'
            ELSE r.state END                          AS state,
       r.changed_at                                   AS since,
       r.attempt,
       r.owner,
       coalesce(r.error_type || ': ' || r.error_text, r.error_type, r.error_text, r.reason) AS last_error,
       CASE WHEN r.state = 'doubt' THEN 'a person: settle or release'
            WHEN r.state = 'running' AND r.lease_until < clock_timestamp() THEN 'the next attempt'
            WHEN r.state = 'running' THEN 'its holder, lease until ' || r.lease_until
            WHEN r.state IN ('ready', 'superseded') THEN 'the next attempt' END AS waiting_for,
       r.mode,
       r.token
FROM docket.result r;
