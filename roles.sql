-- Roles for Docket's tables, each with the rights that its work needs and no others. Apply after schema.sql, as the owner of
-- the tables who may also make roles; harmless when repeated. Then grant one to each login:
--
--     GRANT docket_worker TO shop_web, shop_worker;
--
--   docket_worker    runs steps: claims, certifies, fails, and resolves what is in doubt by a reconcile function. It cannot
--                    change or delete a result of an at-most-once or transactional step once that is certified, refused or
--                    purged, nor what results were made from; it can write into the journal and not read it.
--   docket_reader    sees how things stand, with redacted errors, and neither values nor journal texts. To let it see values,
--                    grant SELECT on the typed views you choose.
--   docket_operator  is a person: sees everything, and settles, releases and invalidates. It can start and delete nothing.
--   docket_janitor   purges what is over and was not touched for a day, and cannot delete the row of an effect.
--
-- Rights say which columns, policies which rows, and a trigger, which fires for nothing else, what a worker may not rewrite
-- (a policy cannot: it would turn the repetition of a certificate, which changes nothing, into an error). A login that was
-- granted the tables by other means can read them and write nothing until it has one of these roles. Their owner may do
-- anything, as before.
--
-- Roles belong to the whole server: two databases with a schema of the same name share them, and their rights stay apart.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['docket_worker', 'docket_reader', 'docket_operator', 'docket_janitor'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN  -- it is there, or is being made elsewhere
            NULL;
        END;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA docket TO docket_worker, docket_reader, docket_operator, docket_janitor;
GRANT SELECT ON docket.version, docket.status TO docket_worker, docket_reader, docket_operator, docket_janitor;

-- The worker. All columns but the keys and the time of creation; never DELETE.
GRANT SELECT, INSERT ON docket.result, docket.input TO docket_worker;
GRANT UPDATE (mode, state, token, claim, owner, attempt, lease_until, made_from, serializer, type, body, view, blob, reason,
              error_type, error_text, changed_at, certified_at) ON docket.result TO docket_worker;
GRANT INSERT (run_id, id, key, event, token, owner, detail, serializer, type, body, blob) ON docket.journal TO docket_worker;

-- The reader. No body, view, blob; no detail of the journal, which may quote a person.
GRANT SELECT (run_id, key, mode, state, token, owner, attempt, lease_until, serializer, type, reason, error_type, created_at,
              changed_at, certified_at) ON docket.result TO docket_reader;
GRANT SELECT (run_id, key, digest, serializer, recorded_at) ON docket.input TO docket_reader;
GRANT SELECT (run_id, id, at, key, event, token, owner, login) ON docket.journal TO docket_reader;

-- The operator. What a verdict changes; the login in the journal is written by the server.
GRANT SELECT ON docket.result, docket.input, docket.journal TO docket_operator;
GRANT UPDATE (state, token, claim, attempt, lease_until, serializer, type, body, view, blob, reason, error_type, error_text,
              changed_at, certified_at) ON docket.result TO docket_operator;
GRANT INSERT (run_id, id, key, event, token, owner, detail, serializer, type, body, blob) ON docket.journal TO docket_operator;

-- The janitor.
GRANT SELECT (run_id, key, mode, state, changed_at), DELETE ON docket.result TO docket_janitor;
GRANT UPDATE (state, serializer, type, body, view, blob, error_text, changed_at) ON docket.result TO docket_janitor;
GRANT SELECT (run_id), DELETE ON docket.input, docket.journal TO docket_janitor;

ALTER TABLE docket.result ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS docket_read ON docket.result;
DROP POLICY IF EXISTS docket_worker_insert ON docket.result;
DROP POLICY IF EXISTS docket_worker_update ON docket.result;
DROP POLICY IF EXISTS docket_operator_update ON docket.result;
DROP POLICY IF EXISTS docket_janitor_update ON docket.result;
DROP POLICY IF EXISTS docket_janitor_delete ON docket.result;

CREATE POLICY docket_read ON docket.result FOR SELECT USING (true);
CREATE POLICY docket_worker_insert ON docket.result FOR INSERT TO docket_worker
    WITH CHECK (state IN ('running', 'certified'));
CREATE POLICY docket_worker_update ON docket.result FOR UPDATE TO docket_worker
    USING (true) WITH CHECK (state <> 'purged');
CREATE POLICY docket_operator_update ON docket.result FOR UPDATE TO docket_operator
    USING (state IN ('running', 'doubt', 'certified', 'refused'))
    WITH CHECK (state IN ('doubt', 'certified', 'refused', 'ready', 'superseded'));
CREATE POLICY docket_janitor_update ON docket.result FOR UPDATE TO docket_janitor
    USING (state IN ('certified', 'refused', 'superseded') AND changed_at < clock_timestamp() - interval '1 day')
    WITH CHECK (state = 'purged');
CREATE POLICY docket_janitor_delete ON docket.result FOR DELETE TO docket_janitor
    USING (state IN ('certified', 'superseded') AND mode = 'at_least_once'
           AND changed_at < clock_timestamp() - interval '1 day');

CREATE OR REPLACE FUNCTION docket.guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF pg_has_role(current_user, 'docket_operator', 'USAGE') OR pg_has_role(current_user, 'docket_janitor', 'USAGE')
       OR pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    RAISE insufficient_privilege USING
        MESSAGE = format('run %s: %s is %s and final for %s', OLD.run_id, OLD.key, OLD.state, current_user),
        HINT = 'Settling, releasing and invalidating an effect takes the role docket_operator.';
END $$;
CREATE OR REPLACE TRIGGER guard BEFORE UPDATE ON docket.result FOR EACH ROW
    WHEN (OLD.state = 'purged' OR (OLD.state IN ('certified', 'refused') AND OLD.mode <> 'at_least_once'))
    EXECUTE FUNCTION docket.guard();
