"""What each role may do, and what it may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from docket import Docket, Refused
from docket.errors import ConfigurationError, InDoubt
from docket.postgres import PostgresCache
from docket.postgres.schema import ROLES, check, roles_sql
from docket.testing import exercise_cache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment
from tests.database import NewDatabase, connected
from tests.orders import Orders, request
from tests.postgres.roles import tables_with_roles

DENIED = "denied"
"""The server refuses the statement; a number is how many rows it reached."""

TABLES = ("result", "input", "journal")
VALUES = ("body", "view", "blob", "error_text")

NEW = (
    "INSERT INTO {{s}}.result (run_id, key, mode, state, claim, lease_until) VALUES "
    "('new', 'k', 'at_most_once', '{0}', gen_random_uuid(), CASE WHEN '{0}' = 'running' THEN now() END)"
)
WRITTEN = "INSERT INTO {{s}}.journal (run_id, id, key, event, token{}) VALUES ('r', gen_random_uuid(), 'k', 'failed', 1{})"
EMPTY = (
    "UPDATE {{s}}.result SET state = 'purged', serializer = NULL, type = NULL, body = NULL, view = NULL, error_text = NULL "
    "WHERE {} AND changed_at < now() - interval '1 day'"
)

ROWS = """
INSERT INTO {s}.result (run_id, key, mode, state, claim, lease_until, serializer, type, body, view, reason, error_type,
                        certified_at, changed_at)
SELECT 'old', mode || ' ' || state, mode, state, gen_random_uuid(), CASE state WHEN 'running' THEN now() END,
       c.given, c.given, c.given::bytea, to_jsonb(c.given), 'why', 'E', now(), now() - interval '2 days'
FROM unnest(ARRAY['at_least_once', 'at_most_once', 'transactional', 'input']) mode,
     unnest(ARRAY['running', 'certified', 'refused', 'doubt', 'ready', 'superseded', 'purged']) state,
     LATERAL (SELECT CASE state WHEN 'certified' THEN 'x' END AS given) c;
CREATE TEMPORARY TABLE young AS SELECT * FROM {s}.result;
UPDATE young SET run_id = 'young', changed_at = now();
INSERT INTO {s}.result SELECT * FROM young;
INSERT INTO {s}.input (run_id, key, digest, serializer, body) VALUES ('old', 'k', 'd', 's', 'secret');
INSERT INTO {s}.journal (run_id, id, key, event, token, detail) VALUES ('old', gen_random_uuid(), 'k', 'failed', 1, 'text');
"""


@dataclass(frozen=True)
class Server:
    """A database with tables and roles.

    Attributes:
        dsn: The owner's.
        schema: The tables'.
        connection: The owner's.
    """

    dsn: str
    schema: str
    connection: Any

    def cache(self, role: str) -> PostgresCache:
        """Make a cache whose logins have a role."""
        return PostgresCache(self.dsn, schema=self.schema, server_settings={"role": f"{self.schema}_{role}"})

    async def outcome(self, role: str, statement: str) -> int | str:
        """Run a statement as a role and undo it; return how many rows it reached."""
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            await self.connection.execute(f"SET LOCAL ROLE {self.schema}_{role}")
            status: str = await self.connection.execute(statement.replace("{s}", self.schema))
        except asyncpg.InsufficientPrivilegeError:
            return DENIED
        finally:
            await transaction.rollback()
        return int(status.rsplit(" ", 1)[1]) if status[-1].isdigit() else 0


@pytest.fixture
async def server(new_database: NewDatabase) -> AsyncGenerator[Server]:
    """A database with tables and roles and rows in every mode and state, of the day before yesterday."""
    dsn = await new_database(tables=False)
    async with connected(dsn) as connection, tables_with_roles(connection) as schema:
        yield Server(dsn, schema, connection)


FACT = "mode IN ('at_most_once', 'transactional')"
FINAL = "state IN ('refused', 'purged')"

PRIVILEGES: list[tuple[str, str, int | str]] = [
    # Everybody who has a role sees how things stand.
    *((role, "SELECT FROM {s}.status", 56) for role in ROLES),
    *((role, "SELECT FROM {s}.version", 1) for role in ROLES),
    *((role, "SELECT run_id, key, mode, state, changed_at FROM {s}.result", 56) for role in ROLES),
    # Values are for workers and operators; what went wrong in detail for operators.
    ("worker", "SELECT body, view, blob, error_text FROM {s}.result", 56),
    ("worker", "SELECT body FROM {s}.input", 1),
    ("worker", "SELECT detail FROM {s}.journal", DENIED),
    *((role, f"SELECT {column} FROM {{s}}.result", DENIED) for role in ("reader", "janitor") for column in VALUES),
    *((role, f"SELECT {column} FROM {{s}}.input", DENIED) for role in ("reader", "janitor") for column in ("body", "view")),
    *((role, f"SELECT {column} FROM {{s}}.journal", DENIED) for role in ("reader", "janitor") for column in ("body", "detail")),
    ("reader", "SELECT event, login FROM {s}.journal", 1),
    ("operator", "SELECT * FROM {s}.result", 56),
    ("operator", "SELECT * FROM {s}.input", 1),
    ("operator", "SELECT * FROM {s}.journal", 1),
    # Claims and certificates are the worker's; nobody else begins anything.
    *((role, NEW.format("running"), 1 if role == "worker" else DENIED) for role in ROLES),
    ("worker", NEW.format("ready"), DENIED),
    ("worker", "INSERT INTO {s}.input (run_id, key, digest, serializer, body) VALUES ('r', 'k', 'd', 's', '')", 1),
    ("operator", "INSERT INTO {s}.input (run_id, key, digest, serializer, body) VALUES ('r', 'k', 'd', 's', '')", DENIED),
    # A worker may not rewrite what is final, nor what anything is called or was made from.
    ("worker", f"UPDATE {{s}}.result SET state = 'superseded' WHERE {FACT} AND state = 'certified'", DENIED),
    ("worker", f"UPDATE {{s}}.result SET body = '' WHERE {FACT} AND state = 'certified'", DENIED),
    ("worker", f"UPDATE {{s}}.result SET state = 'ready' WHERE {FINAL}", DENIED),
    ("worker", "UPDATE {s}.result SET attempt = 0 WHERE NOT (state IN ('certified', 'refused', 'purged'))", 32),
    ("worker", "UPDATE {s}.result SET attempt = 0 WHERE state = 'certified' AND mode = 'at_least_once'", 2),
    ("worker", "UPDATE {s}.result SET state = 'purged' WHERE state = 'ready'", DENIED),
    *(("worker", f"UPDATE {{s}}.result SET {column} = {column}", DENIED) for column in ("run_id", "key", "created_at")),
    ("worker", "UPDATE {s}.input SET body = ''", DENIED),
    ("worker", "UPDATE {s}.journal SET detail = ''", DENIED),
    ("worker", "UPDATE {s}.version SET version = 1", DENIED),
    # An operator decides about what is open or over, and starts nothing.
    ("operator", "UPDATE {s}.result SET state = 'ready' WHERE state = 'doubt'", 8),
    ("operator", "UPDATE {s}.result SET state = 'running', lease_until = now() WHERE state = 'doubt'", DENIED),
    ("operator", "UPDATE {s}.result SET attempt = 0 WHERE state IN ('purged', 'ready', 'superseded')", 0),
    ("operator", "UPDATE {s}.result SET state = 'superseded' WHERE state = 'refused'", 8),
    *(("operator", f"UPDATE {{s}}.result SET {column} = {column}", DENIED) for column in ("mode", "made_from", "owner")),
    # Who was logged in is written by the server.
    *((role, WRITTEN.format("", ""), 1 if role in ("worker", "operator") else DENIED) for role in ROLES),
    *((role, WRITTEN.format(", login", ", 'boss'"), DENIED) for role in ROLES),
    *((role, WRITTEN.format(", at", ", now()"), DENIED) for role in ROLES),
    # A reader writes nothing.
    *(("reader", f"UPDATE {{s}}.{table} SET run_id = ''", DENIED) for table in TABLES),
    # A janitor empties what is over and older than a day, and deletes of that what may be made again.
    ("janitor", EMPTY.format("state IN ('certified', 'refused', 'superseded')"), 12),
    ("janitor", EMPTY.format("state IN ('running', 'doubt', 'ready')"), 0),
    ("janitor", "UPDATE {s}.result SET state = 'ready' WHERE state = 'superseded'", DENIED),
    ("janitor", "DELETE FROM {s}.result", 2),
    ("janitor", "DELETE FROM {s}.input", 1),
    ("janitor", "DELETE FROM {s}.journal", 1),
    ("janitor", "UPDATE {s}.result SET token = 9", DENIED),
    *((role, f"DELETE FROM {{s}}.{table}", DENIED) for role in ROLES[:3] for table in TABLES),
    *((role, f"TRUNCATE {{s}}.{table}", DENIED) for role in ROLES for table in TABLES),
    *((role, "CREATE TABLE {s}.mine (id int)", DENIED) for role in ROLES),
    *((role, "ALTER TABLE {s}.result DISABLE TRIGGER guard", DENIED) for role in ROLES),
]


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_what_it_is_for_and_nothing_else(role: str, server: Server) -> None:
    """Each statement as that role, on rows in every mode and state, half of them of today: how many rows it reaches."""
    await server.connection.execute(ROWS.replace("{s}", server.schema))
    expected = {statement: outcome for who, statement, outcome in PRIVILEGES if who == role}

    found = {statement: await server.outcome(role, statement) for statement in expected}

    assert found == expected


async def test_a_login_without_a_role_may_do_nothing(server: Server) -> None:
    """The tables are not the public's."""
    await server.connection.execute(f"CREATE ROLE {server.schema}_nobody")
    try:
        found = [await server.outcome("nobody", f"SELECT FROM {{s}}.{table}") for table in ("status", "version", *TABLES)]
    finally:
        await server.connection.execute(f"DROP ROLE {server.schema}_nobody")

    assert found == [DENIED] * 5


class _Unpurged:
    """A PostgresCache that offers everything but retention."""

    def __init__(self, cache: PostgresCache) -> None:
        self.load, self.claim, self.certify, self.move = cache.load, cache.claim, cache.certify, cache.move
        self.renew, self.close, self.transact, self.states = cache.renew, cache.close, cache.transact, cache.states


async def test_a_worker_runs_everything(server: Server) -> None:
    """Claims, certificates, failures, doubts, leases, transactions, repetitions: the shipped suite but for retention."""
    cache = server.cache("worker")
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    await orders.d.invalidate("order-1", Reservation)
    await orders.d.run("order-1", Shipment, request())
    await cache.close()

    # Its cache has a purge() that it may not call, so it is shown without one.
    await exercise_cache(lambda: _Unpurged(server.cache("worker")))

    assert (orders.calls["charge"], orders.calls["reserve"]) == (1, 2)


async def test_a_worker_asks_again_when_a_refusal_has_expired(server: Server) -> None:
    """The refusal of a step that may be repeated is no effect."""
    cache, answers = server.cache("worker"), [Reservation(reservation_id="p-1")]
    d = Docket(cache=cache)

    @d.step(cache_result="at_least_once", on_change="recompute", ttl=0.01)
    async def reserve(order: OrderRequest) -> Reservation:
        if len(answers) == 1:
            answers.append(answers[0])
            raise Refused("sold out")
        return answers.pop()

    with pytest.raises(Refused):
        await d.run("order-1", Reservation, request())
    await asyncio.sleep(0.05)

    assert await d.run("order-1", Reservation, request()) == answers[0]
    await d.close()


async def test_a_worker_cannot_take_an_effect_back(server: Server) -> None:
    """Not by Docket's own means either; an operator can, and is named by login."""
    worker, operator = server.cache("worker"), server.cache("operator")
    await Orders(worker).d.run("order-1", ChargeResult, request())
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"ChargeResult is certified and final for test_\w+_worker"):
        await Orders(worker).d.invalidate("order-1", ChargeResult, force=True)
    taken = await Orders(operator).d.invalidate("order-1", ChargeResult, force=True, by="ada")
    await worker.close()
    await operator.close()
    row = await server.connection.fetchrow(f"SELECT event, owner, login FROM {server.schema}.journal")

    assert taken == ("orders.ChargeResult",)
    assert tuple(row) == ("invalidated", "ada", await server.connection.fetchval("SELECT session_user"))


async def test_an_operator_settles_and_releases_and_runs_nothing(server: Server) -> None:
    """Both verdicts, and then a step of its own is refused before it is called."""
    worker, operator = server.cache("worker"), server.cache("operator")
    orders, desk = Orders(worker), Orders(operator)

    async def fail() -> None:
        raise ConnectionError

    orders.charging = fail
    for name in ("order-1", "order-2"):
        with pytest.raises(InDoubt):
            await orders.d.run(name, ChargeResult, request(name))
    await desk.d.settle("order-1", ChargeResult, ChargeResult(charge_id="ch-1"))
    await desk.d.release("order-2", ChargeResult)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await desk.d.run("order-2", ChargeResult, request("order-2"))
    settled = await orders.d.fetch("order-1", ChargeResult)
    await worker.close()
    await operator.close()

    assert settled == ChargeResult(charge_id="ch-1")
    assert desk.calls["charge"] == 0


async def test_a_janitor_purges_what_is_old(server: Server) -> None:
    """With the library's own statement; less than a day is refused or leaves everything, whatever age is asked for."""
    worker, janitor = server.cache("worker"), server.cache("janitor")
    for name in ("old", "young"):
        await Orders(worker).d.run(name, Shipment, request(name))
    await server.connection.execute(
        f"UPDATE {server.schema}.result SET changed_at = now() - interval '2 days' WHERE run_id = 'old'"
    )
    purged = await janitor.purge(0.0)
    await worker.close()
    await janitor.close()
    rows = await server.connection.fetch(f"SELECT run_id, state FROM {server.schema}.result ORDER BY 1, 2")

    assert purged == 1
    assert [tuple(row) for row in rows] == [("old", "purged"), ("young", "certified"), ("young", "certified")]


async def test_applying_the_roles_again_changes_nothing(server: Server) -> None:
    """From two machines at once, too; the tables still are what they should be."""
    async with connected(server.dsn) as other:
        await server.connection.execute(roles_sql(server.schema))
        await other.execute(roles_sql(server.schema))

    assert await check(server.connection, server.schema) == []
    assert await server.outcome("reader", "SELECT FROM {s}.status") == 0


def test_a_name_without_room_for_a_role_s_is_refused() -> None:
    """PostgreSQL would cut all four down to one."""
    with pytest.raises(ConfigurationError, match="too long for roles: use at most 54 bytes"):
        roles_sql("s" * 55)
