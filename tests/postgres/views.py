"""Certified rows and their typed views, for the tests of the views."""

import uuid
from typing import Any

from docket._core.types import storage_key
from docket.postgres.views import TypedView, script, typed_views
from docket.serializers import Serializers

SERIALIZERS = Serializers()


async def certify(
    connection: Any, type_: object, value: object, run_id: str = "r", serializers: Serializers = SERIALIZERS
) -> None:
    """Store *value* as a cache does."""
    key = storage_key(type_)
    stored = serializers.pack(type_, value, run_id=run_id, key=key).stored
    await connection.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, view, certified_at) "
        "VALUES ($1, $2, 'at_least_once', 'certified', $3, $4, $5, $6, $7::text::jsonb, now())",
        run_id,
        key,
        uuid.uuid4(),
        stored.serializer,
        stored.type,
        stored.body,
        stored.view,
    )


def views_of(*types: object, **options: Any) -> list[TypedView]:
    """Return the views of *types* under their storage keys."""
    return typed_views({storage_key(type_): type_ for type_ in types}, SERIALIZERS, **options)


async def first_row(connection: Any, value: object) -> dict[str, Any]:
    """Make the view of *value*'s type, store *value* for the run ``r`` and return its row."""
    views = views_of(type(value))
    await connection.execute(script(views))
    await certify(connection, type(value), value)
    return dict(await connection.fetchrow(f"SELECT * FROM docket.{views[0].name}"))
