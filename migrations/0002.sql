-- 1 -> 2: large results live in an object store; retention finds what is over by an index.
--
-- Quick on a small table. On a large one the index takes a while and holds off writes: create it beforehand with
-- CREATE INDEX CONCURRENTLY under the same name; it is then left as it is.

ALTER TABLE docket.result ADD COLUMN blob jsonb;
ALTER TABLE docket.result ALTER COLUMN created_at SET DEFAULT clock_timestamp();
ALTER TABLE docket.result ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
ALTER TABLE docket.result DROP CONSTRAINT result_body_when_certified;
ALTER TABLE docket.result ADD CONSTRAINT result_value_when_certified CHECK (
        num_nonnulls(body, blob) = (state = 'certified')::integer
        AND (state = 'certified') = (serializer IS NOT NULL)
        AND (state = 'certified') = (type IS NOT NULL)
        AND (state <> 'certified' OR certified_at IS NOT NULL));
ALTER TABLE docket.result DROP CONSTRAINT result_view_is_of_body;
ALTER TABLE docket.result ADD CONSTRAINT result_view_is_of_value CHECK (view IS NULL OR state = 'certified');
ALTER TABLE docket.result ADD CONSTRAINT result_blob_says_where CHECK (blob IS NULL OR blob ?& ARRAY['uri', 'sha256', 'size']);
CREATE INDEX IF NOT EXISTS result_over ON docket.result (changed_at) WHERE state IN ('certified', 'refused', 'superseded');
ALTER TABLE docket.input ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();
ALTER TABLE docket.journal ADD COLUMN blob jsonb;
INSERT INTO docket.version (version) VALUES (2);
