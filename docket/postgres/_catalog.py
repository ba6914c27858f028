"""What the database says about tables, so that two sets of them can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Shape: TypeAlias = Mapping[str, str]
"""By kind and name (``column result.body``), the definition as PostgreSQL writes it, without the schema's name."""

TABLES = ("result", "input", "journal", "version", "status")

_SHAPE = """
WITH relation AS (
  SELECT c.oid, c.relname, c.relkind FROM pg_catalog.pg_class c
  WHERE c.relnamespace = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p', 'v'))
SELECT CASE relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || relname AS name,
       CASE relkind WHEN 'v' THEN pg_catalog.pg_get_viewdef(oid) ELSE '' END AS definition
FROM relation
UNION ALL
SELECT 'column ' || r.relname || '.' || a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || (
              SELECT collname FROM pg_catalog.pg_collation WHERE oid = a.attcollation) ELSE '' END
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM relation r
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
-- NOT NULL is a constraint too since PostgreSQL 18, and said with the column.
SELECT 'constraint ' || r.relname || '.' || c.conname, pg_catalog.pg_get_constraintdef(c.oid)
FROM relation r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid AND c.contype IN ('c', 'p', 'u', 'f', 'x')
UNION ALL
SELECT 'index ' || r.relname || '.' || i.relname, pg_catalog.pg_get_indexdef(i.oid)
FROM relation r JOIN pg_catalog.pg_index x ON x.indrelid = r.oid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
"""

_SPACE = "SELECT CASE WHEN $1 = 'pg_temp' THEN pg_my_temp_schema() ELSE to_regnamespace($1)::oid END AS oid"


async def shape(connection: Any, schema: str) -> Shape:
    """Return the shape of Docket's tables in *schema*.

    Args:
        connection: Of asyncpg.
        schema: Its name, quoted; ``pg_temp`` for that of the session.
    """
    space = await connection.fetchval(_SPACE, schema)
    name = await connection.fetchval("SELECT nspname FROM pg_catalog.pg_namespace WHERE oid = $1", space)
    # Which names are written with their schema depends on the search path, and temporary ones are always found.
    prefix = re.compile(rf'(?<![\w"])(?:ONLY )?"?(?:pg_temp|{re.escape(name or "")})"?\.|\bONLY ')
    rows = await connection.fetch(_SHAPE, space, list(TABLES))
    return {row["name"]: prefix.sub("", row["definition"]) for row in rows}


def differences(expected: Shape, present: Shape) -> list[str]:
    """Say what is missing in *present*, what is there otherwise, and which additions change how rows are written."""
    found = [f"{name} is missing" for name in expected if name not in present]
    found += [
        f"{name} is another one" if name.startswith("view ") else f"{name} is {present[name]!r}, not {definition!r}"
        for name, definition in expected.items()
        if name in present and present[name] != definition
    ]
    others = (name for name in present if name not in expected)
    return found + [f"{name} is none of Docket's" for name in others if name.startswith(("column", "constraint"))]
