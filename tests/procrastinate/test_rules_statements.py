"""What a statement through a Procrastinate connector does, held to both connectors."""

import asyncio
import datetime as dt
import functools
import json
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from procrastinate import exceptions, utils
from procrastinate.connector import BaseAsyncConnector
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT

from docket_procrastinate import AsyncpgConnector
from tests.procrastinate.drivers import Driver

NESTED: dict[str, Any] = {"text": 'it\'s 100 % "☕"', "list": [1, None, 2.5, {"deep": [True]}], "empty": {}}

INSERT = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('orders', 'ship', %(lock)s) RETURNING id
"""


async def with_json_codecs(connection: asyncpg.Connection) -> None:
    """Decode JSON for the application, as many applications have it."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


class TestRows:
    """What comes back."""

    async def test_one_row_all_rows_and_none(self, either: BaseAsyncConnector, database: asyncpg.Connection) -> None:
        """Rows are dictionaries in order; one is the first; a statement for its effect gives nothing and is committed."""
        effect: Any = either.execute_query_async
        assert await effect(INSERT, lock="a") is None
        await either.execute_query_async(INSERT, lock="b")
        query = "SELECT queueing_lock, status FROM procrastinate_jobs ORDER BY id"

        rows = [{"queueing_lock": "a", "status": "todo"}, {"queueing_lock": "b", "status": "todo"}]
        assert await either.execute_query_all_async(query) == rows
        assert await either.execute_query_one_async(query) == rows[0]
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 2

    async def test_a_row_that_is_not_there(self, either: BaseAsyncConnector) -> None:
        """All rows are an empty list; one row is NoResult."""
        assert await either.execute_query_all_async("SELECT 1 WHERE %(no)s", no=False) == []
        with pytest.raises(exceptions.NoResult):
            await either.execute_query_one_async("SELECT 1 WHERE %(no)s", no=False)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("""SELECT '{"a": [1, "é"]}'::jsonb AS value""", {"a": [1, "é"]}),
            ("""SELECT '{"a": 1}'::json AS value""", {"a": 1}),
            ("SELECT '[1, null]'::jsonb AS value", [1, None]),
            ("""SELECT '"12"'::jsonb AS value""", "12"),
            ("SELECT 'null'::jsonb AS value", None),
            ("SELECT NULL::jsonb AS value", None),
            ("""SELECT ARRAY['{"a": 1}', NULL, '2']::jsonb[] AS value""", [{"a": 1}, None, 2]),
            ("""SELECT '{"a": 1}'::text AS args""", '{"a": 1}'),
        ],
    )
    async def test_json_is_told_by_the_columns_type(self, either: BaseAsyncConnector, text: Any, expected: object) -> None:
        """A JSON column is decoded whatever its name; a text that looks like JSON is not."""
        assert list((await either.execute_query_one_async(text)).values()) == [expected]

    @pytest.mark.parametrize("cache", [0, 100])
    async def test_json_is_decoded_once(self, cache: int, dsn: str) -> None:
        """On a pool that decodes JSON for its application, a text that came out of JSON stays as it is."""
        async with asyncpg.create_pool(dsn, min_size=0, init=with_json_codecs, statement_cache_size=cache) as pool:
            connector = AsyncpgConnector(pool=pool)
            await connector.open_async()
            row = await connector.execute_query_one_async("""SELECT '"12"'::jsonb AS text, '{"a": 1}'::json AS object""")

        assert row == {"text": "12", "object": {"a": 1}}


class TestArguments:
    """What goes in."""

    @pytest.mark.parametrize(
        "value",
        [
            "text", "", None, True, 7, -(2**15) - 1, 2**31, 2**63, 2.5, Decimal("1.50"), b"\0\xff", [1, 2**40, None], [True],
            dt.date(2026, 1, 2), dt.time(3, 4), dt.time(3, 4, tzinfo=dt.UTC), dt.timedelta(days=1, seconds=2),
            dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), dt.datetime.combine(dt.date(2026, 1, 2), dt.time(3)), NESTED,
            uuid.UUID(int=7),
        ],
        ids=repr,
    )  # fmt: skip
    async def test_a_value_stands_alone(self, either: BaseAsyncConnector, value: object) -> None:
        """A value of any common type comes back as it was, though nothing in the query says what it is."""
        assert await either.execute_query_one_async("SELECT %(value)s AS value", value=value) == {"value": value}

    async def test_a_number_becomes_text_and_an_interval(self, either: BaseAsyncConnector) -> None:
        """A number may be cast, joined and counted with; a name that stands twice is one argument."""
        row = await either.execute_query_one_async(
            "SELECT %(n)s::text AS text, (%(n)s || ' hours')::interval AS hours, %(n)s + 1 AS next", n=2
        )

        assert row == {"text": "2", "hours": dt.timedelta(hours=2), "next": 3}

    async def test_a_text_becomes_what_its_place_calls_for(self, either: BaseAsyncConnector) -> None:
        """A text is read as the type beside it, as a literal in a query is."""
        row = await either.execute_query_one_async(
            "SELECT %(day)s::date AS day, %(ids)s::int[] AS ids, %(document)s::jsonb AS document, 'x' || %(day)s AS joined",
            day="2026-01-02", ids="{1,2}", document='{"a": 1}',
        )  # fmt: skip
        jobs = await either.execute_query_all_async(
            "SELECT 1 FROM procrastinate_jobs WHERE id = %(id)s AND scheduled_at < %(at)s AND status = %(status)s",
            id="7", at="2026-01-02", status="todo",
        )  # fmt: skip

        assert row == {"day": dt.date(2026, 1, 2), "ids": [1, 2], "document": {"a": 1}, "joined": "x2026-01-02"}
        assert jobs == []

    async def test_percent_signs_quotes_and_braces(self, either: BaseAsyncConnector) -> None:
        """A doubled percent sign is one; all else is taken as it stands, in the query and in an argument."""
        row = await either.execute_query_one_async(
            """SELECT '100%%' AS a, '%%(b)s it''s "$1" {c} \\' AS "b %%", %(text)s AS text""", text="%(text)s %% $1 '; --"
        )

        assert row == {"a": "100%", "b %": '%(b)s it\'s "$1" {c} \\', "text": "%(text)s %% $1 '; --"}

    @pytest.mark.parametrize("cast", ["json", "jsonb"])
    async def test_json_comes_back_as_it_was(self, either: BaseAsyncConnector, cast: str) -> None:
        """A dictionary is JSON, with all its nesting; so are those in a list."""
        query: Any = f"SELECT %(one)s::{cast} AS one, %(many)s::{cast}[] AS many"

        expected = {"one": NESTED, "many": [NESTED, {}]}
        assert await either.execute_query_one_async(query, one=NESTED, many=[NESTED, {}]) == expected
        assert await either.execute_query_all_async(query, one=NESTED, many=[NESTED, {}]) == [expected]

    async def test_the_users_json_functions_are_used(self, driver: Driver, dsn: str) -> None:
        """What the user's json_dumps can write may stand in an argument, and json_loads makes the result."""
        dumps = functools.partial(json.dumps, default=dt.date.isoformat)
        loads = functools.partial(json.loads, parse_float=Decimal)
        connector = driver.make(dsn, json_dumps=dumps, json_loads=loads)
        await connector.open_async()
        arguments = {"order": {"day": dt.date(2026, 1, 2), "price": 1.5}, "orders": [{"day": dt.date(2026, 1, 3)}]}
        query: Any = "SELECT %(order)s::jsonb AS document, %(orders)s::jsonb[] AS documents"
        rows = [await connector.execute_query_one_async(query, **arguments)]
        rows += await connector.execute_query_all_async(query, **arguments)
        await connector.close_async()

        document = {"day": "2026-01-02", "price": Decimal("1.5")}
        assert rows == [{"document": document, "documents": [{"day": "2026-01-03"}]}] * 2


class TestErrors:
    """What goes wrong."""

    @pytest.mark.parametrize(
        ("query", "arguments"),
        [
            ("SELEKT", {}),
            ("SELECT 1 / %(zero)s", {"zero": 0}),
            ("SELECT * FROM no_such_table", {}),
            ("SELECT %(n)s::int", {"n": "seven"}),
            ("SELECT %(n)s::int", {"m": 7}),
            ("SELECT %(text)s", {"text": "\0"}),
        ],
    )
    async def test_it_is_procrastinates_with_the_cause(
        self, either: BaseAsyncConnector, query: Any, arguments: dict[str, Any]
    ) -> None:
        """Whatever the database or its driver refuses is a ConnectorException; the next statement is not concerned."""
        for call in (either.execute_query_async, either.execute_query_one_async, either.execute_query_all_async):
            with pytest.raises(exceptions.ConnectorException) as caught:
                await call(query, **arguments)
            assert caught.value.__cause__ is not None

        assert await either.execute_query_one_async("SELECT 1 AS one") == {"one": 1}

    async def test_a_taken_lock_is_named(self, either: BaseAsyncConnector, database: asyncpg.Connection) -> None:
        """A violated unique constraint is told from other errors, with its name and the queueing lock."""
        await either.execute_query_async(INSERT, lock="order 1")
        for call in (either.execute_query_async, either.execute_query_one_async, either.execute_query_all_async):
            with pytest.raises(exceptions.UniqueViolation) as caught:
                await call(INSERT, lock="order 1")
            assert (caught.value.constraint_name, caught.value.queueing_lock) == (QUEUEING_LOCK_CONSTRAINT, "order 1")

        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 1

    async def test_what_json_cannot_hold_is_the_callers_mistake(self, either: BaseAsyncConnector) -> None:
        """The error of json_dumps comes out as it was raised."""
        with pytest.raises(TypeError, match="not JSON serializable"):
            await either.execute_query_one_async("SELECT %(order)s::jsonb", order={"day": dt.date(2026, 1, 2)})

    async def test_a_script_takes_effect_as_a_whole(self, either: BaseAsyncConnector, database: asyncpg.Connection) -> None:
        """Without arguments a query may hold several statements; if one fails, none has been carried out."""
        script = """
        INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('a', '100%%');
        INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('b', 't');
        """
        with pytest.raises(exceptions.ConnectorException):
            await either.execute_query_async(script + "SELECT 1 / 0;")
        before = await database.fetchval("SELECT count(*) FROM procrastinate_jobs")
        await either.execute_query_async(script)

        assert before == 0
        assert await database.fetchval("SELECT array_agg(task_name ORDER BY id) FROM procrastinate_jobs") == ["100%", "t"]


class TestTogether:
    """Several callers."""

    async def test_statements_run_side_by_side(self, either: BaseAsyncConnector) -> None:
        """Each caller gets the answer to its own statement, more of them than there are connections too."""
        query = "SELECT %(n)s AS n FROM pg_sleep(0.01)"
        rows = await asyncio.gather(*(either.execute_query_one_async(query, n=n) for n in range(30)))

        assert rows == [{"n": n} for n in range(30)]

    async def test_a_cancelled_statement_harms_no_other(self, either: BaseAsyncConnector) -> None:
        """A caller that no longer waits leaves a connector that works, without a trace of the statement."""
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await either.execute_query_async(INSERT + " ,pg_sleep(60)", lock="a")

        assert await either.execute_query_all_async("SELECT id FROM procrastinate_jobs") == []

    async def test_a_thread_of_procrastinates_may_ask(self, either: BaseAsyncConnector) -> None:
        """The synchronous methods serve a synchronous task while the loop goes on."""

        def ask(connector: Any) -> list[object]:
            return [
                connector.execute_query(INSERT, lock="a"),
                connector.execute_query_one("SELECT %(n)s AS n", n=1),
                connector.execute_query_all("SELECT %(document)s AS document", document=NESTED),
            ]

        expected = [None, {"n": 1}, [{"document": NESTED}]]
        assert await utils.sync_to_async(ask, either) == expected
        await either.execute_query_async("DELETE FROM procrastinate_jobs")
        assert await utils.sync_to_async(ask, either.get_sync_connector()) == expected


class TestTheCallersConnection:
    """Statements in a transaction of the caller's."""

    async def test_they_take_part_in_it(
        self, either: BaseAsyncConnector, driver: Driver, dsn: str, database: asyncpg.Connection
    ) -> None:
        """They see what the transaction did, nobody else does, and a rollback takes it back."""
        one, all_ = either.execute_query_one_async_with_connection, either.execute_query_all_async_with_connection
        async with driver.connection(dsn) as connection:
            await connection.execute("BEGIN")
            rows = [await one(connection, INSERT, lock="a"), *await all_(connection, INSERT, lock="b")]
            count = await one(connection, "SELECT count(*) AS n FROM procrastinate_jobs WHERE id > %(id)s", id=0)
            outside = await database.fetchval("SELECT count(*) FROM procrastinate_jobs")
            await connection.execute("ROLLBACK")
            document = await one(connection, "SELECT %(document)s AS document", document=NESTED)

        assert (rows, count, outside) == ([{"id": 1}, {"id": 2}], {"n": 2}, 0)
        assert document == {"document": NESTED}
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 0

    async def test_their_errors_are_procrastinates(self, either: BaseAsyncConnector, driver: Driver, dsn: str) -> None:
        """No row is NoResult for one; a refusal is a ConnectorException, a taken lock a UniqueViolation."""
        one, all_ = either.execute_query_one_async_with_connection, either.execute_query_all_async_with_connection
        async with driver.connection(dsn) as connection:
            assert await all_(connection, "SELECT 1 WHERE false") == []
            with pytest.raises(exceptions.NoResult):
                await one(connection, "SELECT 1 WHERE false")
            await one(connection, INSERT, lock="a")
            for call in (one, all_):
                with pytest.raises(exceptions.ConnectorException):
                    await call(connection, "SELECT 1 / 0")
                with pytest.raises(exceptions.UniqueViolation):
                    await call(connection, INSERT, lock="a")

    async def test_a_thread_of_procrastinates_may_use_it(
        self, either: BaseAsyncConnector, driver: Driver, dsn: str, database: asyncpg.Connection
    ) -> None:
        """A synchronous task can do so too, with a connection of the loop's, directly or as Procrastinate does."""

        def ask(connector: Any, connection: Any) -> list[object]:
            return [
                connector.execute_query_one_with_connection(connection, "SELECT %(n)s AS n", n=1),
                connector.execute_query_all_with_connection(connection, INSERT, lock=None),
            ]

        async with driver.connection(dsn) as connection:
            rows = await utils.sync_to_async(ask, either, connection)
            rows += await utils.sync_to_async(ask, either.get_sync_connector(), connection)

        assert rows == [{"n": 1}, [{"id": 1}], {"n": 1}, [{"id": 2}]]
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 2
