"""The SQL, one text per operation.

Every statement works on many rows at once (``unnest``), so that what concurrent runs ask for can travel together, and is one
autocommitted transition per row: no session state, no advisory locks, nothing a transaction pooler would lose. Rows are
sent in the order of their key, so that two statements rarely meet on the same rows in opposite order; where they do, the
server ends one and it is repeated. The only identifier that varies is the schema's name, which is validated and quoted
before it gets here; everything else is a parameter.

JSON, and a uuid that is sent, travel as text and are cast here, so that a pool with codecs of its own changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from docket.errors import ConfigurationError

# A role or a database may have synchronous_commit off; what a claim or a certificate promises must be on disk when it returns
# (PostgreSQL manual, "Asynchronous Commit": not to be used if the client will rely on the transaction being remembered).
_DURABLE = "durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))"

_COLUMNS = """run_id, key, mode, state, token, claim, owner, attempt,
    extract(epoch FROM clock_timestamp() - changed_at)::float8 AS since,
    coalesce(extract(epoch FROM lease_until - clock_timestamp()), 0)::float8 AS lease_left,
    made_from::text AS made_from, serializer, type, body, blob::text AS blob, reason, error_type, error_text"""

_INPUT = """run_id, key, 'input', 'certified', 1, NULL::uuid, '', 0,
    extract(epoch FROM clock_timestamp() - recorded_at)::float8, 0,
    NULL, serializer, key, body, NULL, digest, NULL, NULL"""


Shape: TypeAlias = Literal["bare", "one", "pair", "many"]
"""A write of one row without an input, of one row with one input, of two rows with one input (two steps of a run that were
ready together), or of any number of both. Most writes are of one or two rows, and then plain values are half the work of
arrays, for the client and for the server."""

ROWS: Mapping[Shape, int] = {"bare": 1, "one": 1, "pair": 2}
"""The rows of a shape that has plain values."""

SHAPES: tuple[Shape, ...] = get_args(Shape)

Columns: TypeAlias = tuple[tuple[str, str], ...]
"""Names and types."""

WRITE: Columns = (
    ("run_id", "text"), ("key", "text"), ("mode", "text"), ("claim", "text"), ("owner", "text"), ("lease", "float8"),
    ("made_from", "text"), ("token", "bigint"), ("serializer", "text"), ("type", "text"), ("body", "bytea"), ("view", "text"),
    ("blob", "text"),
)  # fmt: skip
"""A claim has a lease and no value, a certificate a value and no lease."""

INPUT: Columns = (
    ("run_id", "text"), ("key", "text"), ("digest", "text"), ("serializer", "text"), ("body", "bytea"), ("view", "text"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statements:
    """The SQL of one schema.

    Attributes:
        load: ``$1`` run ids. Rows of results and, with mode ``input``, of inputs (digest in ``reason``, age in ``since``).
        states: ``$1, $2`` run ids and keys, pair by pair. Rows of run id, key and state; see `docket.cache.Glances`.
        load_one: The same as ``load`` for ``$1``, one run id.
        write: By shape. Claims and certificates: the columns of `WRITE`, then those of `INPUT`. Returns the rows written.
        claim: By shape. The same for one claim in a step's transaction, and then the ``lock_timeout`` of ``begin``, which holds
            again once it is granted.
        move: See `docket.cache.Move`; one row. Returns the row if it moved.
        renew: ``$1..$4`` run id, key, token, nonce, ``$5`` lease. Returns the nonces still held.
        purge: ``$1`` age in seconds, ``$2`` most runs. Returns how many runs were purged.
        begin: ``$1`` milliseconds to wait for a rival's transaction. Returns the transaction's id, and the ``lock_timeout``
            that held before.
        transaction: Returns the transaction's id.
        outcome: ``$1`` a transaction's id. Returns how it ended.
    """

    load: str
    load_one: str
    states: str
    write: Mapping[Shape, str]
    claim: Mapping[Shape, str]
    move: str
    renew: str
    purge: str
    begin: str
    transaction: str
    outcome: str


def validated(schema: str) -> str:
    """Return *schema* quoted for SQL.

    Raises:
        ConfigurationError: It is not a plain lower-case identifier of at most 63 bytes.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ConfigurationError(
            f"the schema name {schema!r:.80} is not a plain identifier; use lower-case letters, digits and _ (at most 63)"
        )
    return f'"{schema}"'


def statements(schema: str) -> Statements:
    """Return the SQL for the tables in *schema*."""
    s = validated(schema)
    return Statements(
        load=_load(s),
        load_one=_load_one(s),
        states=f"""
SELECT r.run_id, r.key, CASE WHEN r.state = 'running' AND r.lease_until < clock_timestamp() AND r.mode <> 'at_least_once'
  THEN 'doubt' ELSE r.state END AS state
FROM unnest($1::text[], $2::text[]) n (run_id, key) JOIN {s}.result r USING (run_id, key)""",
        write={shape: _write(s, shape) for shape in SHAPES},
        claim={shape: _claim(s, shape) for shape in SHAPES},
        move=_move(s),
        renew=_renew(s),
        purge=_purge(s),
        begin="""
SELECT b.lock_timeout, set_config('lock_timeout', $1::text, true), set_config('synchronous_commit', 'on', true),
       pg_current_xact_id()::text AS id
FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b""",
        transaction="SELECT pg_current_xact_id_if_assigned()::text",
        outcome="SELECT pg_xact_status($1::text::xid8)",
    )


def _rows(columns: Columns, first: int, name: str, count: int | None) -> str:
    """Return the rows that a statement is given as something to select from; *count* is None for any number."""
    if count is not None:
        starts = range(first, first + count * len(columns), len(columns))
        rows = (
            ", ".join(f"${start + at}::{type_} AS {column}" for at, (column, type_) in enumerate(columns)) for start in starts
        )
        return f"({' UNION ALL '.join(f'SELECT {row}' for row in rows)}) {name}"
    arrays = ", ".join(f"${first + at}::{type_}[]" for at, (_, type_) in enumerate(columns))
    return f"unnest({arrays}) AS {name} ({', '.join(column for column, _ in columns)})"


def _inputs(s: str, shape: Shape) -> str:
    if shape == "bare":
        return ""
    first = 1 + len(WRITE) * ROWS.get(shape, 1)
    return f""", recorded AS (
  INSERT INTO {s}.input (run_id, key, digest, serializer, body, view)
  SELECT i.run_id, i.key, i.digest, i.serializer, i.body, i.view::jsonb
  FROM {_rows(INPUT, first, "i", None if shape == "many" else 1)}
  ON CONFLICT DO NOTHING)"""


def _load(s: str) -> str:
    # LATERAL, so that every run is a look into the index however little the server knows about its tables.
    return f"""
SELECT r.* FROM unnest($1::text[]) n (run_id), LATERAL (SELECT {_COLUMNS} FROM {s}.result WHERE run_id = n.run_id) r
UNION ALL
SELECT i.* FROM unnest($1::text[]) n (run_id), LATERAL (SELECT {_INPUT} FROM {s}.input WHERE run_id = n.run_id) i"""


def _load_one(s: str) -> str:
    return f"""
SELECT {_COLUMNS} FROM {s}.result WHERE run_id = $1::text
UNION ALL
SELECT {_INPUT} FROM {s}.input WHERE run_id = $1::text"""


def _write(s: str, shape: Shape) -> str:
    # Claims and certificates in one text, so that what the steps of a run have to say at the same time is one statement and one
    # commit. An INSERT for claimed results as well: it always goes by the index, where an UPDATE that is joined to the rows it
    # is given reads the whole table as long as the server has no statistics.
    #
    # Whose row it is shows in nonce and token. What is new, a claim or a certificate that nobody claimed, brings a nonce of its
    # own and the token that was seen plus one, so "the row is still the one that was seen" needs no column of its own. A
    # claim's certificate brings those of the row.
    return f"""
WITH {_DURABLE}{_inputs(s, shape)}
INSERT INTO {s}.result AS r
  (run_id, key, mode, state, token, claim, owner, lease_until, made_from, serializer, type, body, view, blob, certified_at)
SELECT n.run_id, n.key, n.mode, CASE WHEN n.lease IS NULL THEN 'certified' ELSE 'running' END, n.token, n.claim::uuid, n.owner,
       clock_timestamp() + make_interval(secs => n.lease), n.made_from::jsonb,
       n.serializer, n.type, n.body, n.view::jsonb, n.blob::jsonb, CASE WHEN n.lease IS NULL THEN clock_timestamp() END
FROM {_rows(WRITE, 1, "n", ROWS.get(shape))}, durable
ON CONFLICT (run_id, key) DO UPDATE SET
  mode = excluded.mode, state = excluded.state, token = excluded.token, claim = excluded.claim, owner = excluded.owner,
  attempt = r.attempt + (excluded.state = 'running')::int, lease_until = excluded.lease_until, made_from = excluded.made_from,
  serializer = excluded.serializer, type = excluded.type, body = excluded.body, view = excluded.view, blob = excluded.blob,
  reason = NULL, error_type = NULL, error_text = NULL, changed_at = clock_timestamp(), certified_at = excluded.certified_at
WHERE CASE WHEN r.claim <> excluded.claim THEN r.token = excluded.token - 1
    AND (r.state IN ('ready', 'superseded')
         OR (r.state = 'running' AND r.mode = 'at_least_once'
             AND (excluded.state = 'certified' OR (excluded.mode = 'at_least_once' AND r.lease_until < clock_timestamp()))))
  ELSE excluded.state = 'certified' AND r.token = excluded.token
    AND (r.state = 'running' OR (r.state = 'doubt' AND r.reason IN ('holder_lost', 'timeout', 'cancelled'))) END
RETURNING r.run_id, r.key, r.token, r.attempt"""


def _claim(s: str, shape: Shape) -> str:
    # No statement of its own for the setting: every transactional step would pay a round trip for it. It is set when the row is
    # written and, with the count, after the inputs are, for which a rival's transaction may be waited for as well.
    last = 1 + len(WRITE) * ROWS.get(shape, 1) + (0 if shape == "bare" else len(INPUT))
    waited = "" if shape == "bare" else "WHERE (SELECT count(*) FROM recorded) >= 0"
    text = _write(s, shape).replace("  ON CONFLICT DO NOTHING)", "  ON CONFLICT DO NOTHING RETURNING 1)", 1)
    return f"""{text},
  (SELECT set_config('lock_timeout', ${last}::text, true) {waited})"""


def _move(s: str) -> str:
    # The old value of a superseded row goes into the journal, which is why the row is locked before it is changed.
    return f"""
WITH {_DURABLE}, before AS MATERIALIZED (
  SELECT r.run_id, r.key, r.token, r.owner, r.serializer, r.type, r.body, r.blob FROM {s}.result r, durable
  WHERE r.run_id = $1::text AND r.key = $2::text AND r.token = $3::bigint
    AND ($4::text IS NULL OR r.claim = $4::text::uuid) AND r.state = ANY($5::text[])
    AND (NOT $7::boolean OR r.lease_until < clock_timestamp())
  FOR UPDATE OF r),
moved AS (
  UPDATE {s}.result r SET
    state = $6::text, lease_until = NULL, token = r.token + $18::boolean::int,
    claim = CASE WHEN $18 THEN $9::text::uuid ELSE r.claim END,
    attempt = CASE WHEN $18 AND $6 = 'ready' THEN 0 ELSE r.attempt END,
    reason = nullif($10::text, ''), error_type = nullif($11::text, ''), error_text = nullif($12::text, ''),
    serializer = CASE WHEN $6 = 'certified' THEN $13::text END, type = CASE WHEN $6 = 'certified' THEN $14::text END,
    body = CASE WHEN $6 = 'certified' THEN $15::bytea END, view = CASE WHEN $6 = 'certified' THEN $16::text::jsonb END,
    blob = CASE WHEN $6 = 'certified' THEN $19::text::jsonb END,
    certified_at = CASE WHEN $6 IN ('certified', 'refused') THEN clock_timestamp() END, changed_at = clock_timestamp()
  FROM before b
  WHERE r.run_id = b.run_id AND r.key = b.key
    AND r.run_id = $1 AND r.key = $2
  RETURNING r.run_id, r.key, r.token, r.owner),
written AS (
  INSERT INTO {s}.journal (run_id, id, key, event, token, owner, detail, serializer, type, body, blob)
  SELECT $1, $9::text::uuid, $2, $8::text, $3, coalesce(nullif($17::text, ''), m.owner),
         nullif(concat_ws(': ', nullif($10, ''), nullif($11, ''), nullif($12, '')), ''),
         coalesce($13, m.serializer), coalesce($14, m.type), coalesce($15, m.body), coalesce($19::text::jsonb, m.blob)
  FROM (SELECT b.owner, b.serializer, b.type, b.body, b.blob FROM before b
        -- A result that came too late moves nothing and is kept all the same.
        UNION ALL SELECT '', NULL, NULL, NULL, NULL WHERE cardinality($5::text[]) = 0) m
  ON CONFLICT DO NOTHING)
SELECT token FROM moved"""


def _renew(s: str) -> str:
    return f"""
UPDATE {s}.result r SET lease_until = clock_timestamp() + make_interval(secs => $5)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS h (run_id, key, token, claim)
WHERE r.run_id = h.run_id AND r.key = h.key AND r.token = h.token AND r.claim = h.claim::uuid AND r.state = 'running'
  AND r.run_id = ANY($1::text[])
RETURNING r.claim::text AS claim"""


def _purge(s: str) -> str:
    # Whole runs only, each counted by its oldest row. A run is chosen if nothing of it is open or young, and purged if each of
    # its rows can be locked as it was found: SKIP LOCKED leaves out what somebody is changing, and a row that was changed since
    # is looked at again when it is locked. What a run in flight claims afterwards is a row of its own; the effects it has had
    # keep theirs.
    over = "('certified', 'refused', 'superseded')"
    return f"""
WITH chosen AS MATERIALIZED (
  SELECT DISTINCT run_id FROM (
    SELECT r.run_id FROM {s}.result r
    WHERE r.state IN {over} AND r.changed_at < clock_timestamp() - make_interval(secs => $1::float8)
      AND NOT EXISTS (
        SELECT FROM {s}.result o WHERE o.run_id = r.run_id
          AND (o.state IN ('running', 'doubt', 'ready')
               OR o.changed_at >= clock_timestamp() - make_interval(secs => $1)
               OR (o.state IN {over} AND (o.changed_at, o.key) < (r.changed_at, r.key))))
    ORDER BY r.changed_at LIMIT $2::bigint) oldest),
locked AS MATERIALIZED (
  SELECT r.run_id, r.key, r.mode = 'at_least_once' AND r.state <> 'refused' AS repeatable
  FROM chosen c JOIN {s}.result r ON r.run_id = c.run_id
  WHERE r.state IN {over} AND r.changed_at < clock_timestamp() - make_interval(secs => $1)
  ORDER BY r.run_id, r.key FOR UPDATE OF r SKIP LOCKED),
old AS MATERIALIZED (
  SELECT c.run_id FROM chosen c WHERE NOT EXISTS (
    SELECT FROM {s}.result r WHERE r.run_id = c.run_id AND r.state <> 'purged'
      AND NOT EXISTS (SELECT FROM locked l WHERE l.run_id = r.run_id AND l.key = r.key))),
emptied AS (
  UPDATE {s}.result r SET
    state = 'purged', serializer = NULL, type = NULL, body = NULL, view = NULL, blob = NULL,
    error_text = NULL, changed_at = clock_timestamp()
  FROM old JOIN locked l ON l.run_id = old.run_id
  WHERE r.run_id = l.run_id AND r.key = l.key AND NOT l.repeatable),
deleted AS (
  DELETE FROM {s}.result r USING old, locked l
  WHERE l.run_id = old.run_id AND r.run_id = l.run_id AND r.key = l.key AND l.repeatable),
inputs AS (DELETE FROM {s}.input i USING old WHERE i.run_id = old.run_id),
journal AS (DELETE FROM {s}.journal j USING old WHERE j.run_id = old.run_id)
SELECT count(*) FROM old"""
