"""Results too large for a row, in a folder, in memory and in S3."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore

from docket import Docket
from docket._core.record import Blob
from docket.blobs import BlobStore, stream_result
from docket.errors import Undecodable
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.records import Records
from tests.certify.steps import REQUEST
from tests.database import connected

LARGE = ChargeResult(charge_id="x" * 3_000_000)
KEY = "orders.ChargeResult"


@pytest.fixture(scope="session")
async def s3() -> AsyncGenerator[str]:
    """The address of a server that speaks S3, in a process of its own."""
    program = Path(sys.executable).parent / "moto_server"
    process = await asyncio.create_subprocess_exec(
        str(program), "-p", "0", stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    address = ""
    while "http://" not in address:
        address = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
    reading = asyncio.create_task(process.stderr.read())
    yield address.split("http://")[1].split()[0]
    process.terminate()
    await process.wait()
    await reading


@pytest.fixture(params=["memory", "folder", "folder by URL", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> BlobStore:
    """Each store in turn."""
    if request.param == "memory":
        return BlobStore(MemoryStore())
    if request.param == "folder":
        return BlobStore(LocalStore(str(tmp_path)))
    if request.param == "folder by URL":
        return BlobStore(f"file://{tmp_path}/new")
    bucket = f"b{os.urandom(4).hex()}"
    reader, writer = await asyncio.open_connection(*s3.split(":"))
    writer.write(f"PUT /{bucket} HTTP/1.1\r\nHost: {s3}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    writer.close()
    return BlobStore(
        f"s3://{bucket}/results", endpoint=f"http://{s3}", region="us-east-1", access_key_id="test",
        secret_access_key="test", virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip


class Large:
    """A Docket whose step gives a large result."""

    def __init__(self, dsn: str, blobs: BlobStore | None) -> None:
        self.cache = PostgresCache(dsn)
        self.d = Docket(cache=self.cache, blobs=blobs)
        self.calls = 0
        self.d.step(cache_result="at_most_once")(self.charge)

    async def charge(self, request: OrderRequest) -> ChargeResult:
        """Give three megabytes."""
        self.calls += 1
        return LARGE


@pytest.mark.parametrize("name", ["o" * 255, "注文" * 42, "é" * 127, ".:" * 127, "%/" * 127])
async def test_whatever_is_a_run_id_is_part_of_a_path(tmp_path: Path, name: str) -> None:
    """Long ones too, which a file system does not take as they are; those that begin alike are kept apart."""
    blobs = BlobStore(f"file://{tmp_path}/new")
    alike = name[:-1] + "a"

    stored = [await blobs.put(run_id, key, b"x") for run_id in (name, alike) for key in (name, alike)]
    found = [await blobs.get(blob) for blob in stored]
    assert (found, len({blob.uri for blob in stored})) == ([b"x"] * 4, 4)


async def test_a_large_result_is_kept_by_reference(dsn: str, blobs: BlobStore) -> None:
    """The row says where it is, how large and with which hash; it comes back as it was, at once and piece by piece."""
    large = Large(dsn, blobs)

    assert await large.d.run("order-1", ChargeResult, REQUEST) == LARGE
    assert await large.d.run("order-1", ChargeResult, REQUEST) == LARGE
    assert await large.d.fetch("order-1", ChargeResult) == LARGE
    pieces = [piece async for piece in stream_result(large.cache, blobs, "order-1", KEY)]
    await large.d.close()
    (row,) = (await Records.of(dsn, "order-1")).results
    assert large.calls == 1
    assert b"".join(pieces) == LARGE.SerializeToString(deterministic=True)
    assert (row["body"], row["view"]) == (None, None)
    assert '"size": 3000' in row["blob"]


async def test_the_same_bytes_are_put_once(blobs: BlobStore) -> None:
    """A second put of the same result finds it there and names the same place."""
    first, second = await blobs.put("run", KEY, b"bytes"), await blobs.put("run", KEY, b"bytes")

    assert first == second
    assert await blobs.get(first) == b"bytes"


@pytest.mark.parametrize("name", ["../../etc/passwd", ".", "a/b", "日本語", "%2E%2E", "a b?c#d"])
async def test_a_hostile_name_stays_in_its_place(blobs: BlobStore, name: str) -> None:
    """A run id with separators, dots and percent signs is one part of the path, and no other run's."""
    one, other = await blobs.put(name, KEY, b"one"), await blobs.put("a", "b", b"one")

    assert await blobs.get(one) == b"one"
    assert one.uri != other.uri
    assert "/../" not in one.uri


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_bytes_that_changed_are_refused(dsn: str, tmp_path: Path) -> None:
    """A byte that was changed in the store raises, names the object, and nothing is computed in its place."""
    large = Large(dsn, BlobStore(LocalStore(str(tmp_path))))
    await large.d.run("order-1", ChargeResult, REQUEST)
    (stored,) = _files(tmp_path)
    stored.write_bytes(stored.read_bytes()[:-1] + b"y")

    with pytest.raises(Undecodable, match="sha256"):
        await large.d.fetch("order-1", ChargeResult)
    stored.unlink()
    with pytest.raises(Undecodable):
        await large.d.run("order-1", ChargeResult, REQUEST)
    await large.d.close()
    assert large.calls == 1


async def test_without_a_store_the_row_says_what_is_missing(dsn: str) -> None:
    """A process that was not given the store says which object it would need."""
    large, bare = Large(dsn, BlobStore(MemoryStore())), Large(dsn, None)
    await large.d.run("order-1", ChargeResult, REQUEST)

    with pytest.raises(Undecodable, match="there is no blob store"):
        await bare.d.fetch("order-1", ChargeResult)
    await large.d.close()
    await bare.d.close()


async def test_another_store_is_refused(tmp_path: Path) -> None:
    """A reference into another store is not looked up under the same name here."""
    with pytest.raises(ValueError, match="give Docket the store"):
        await BlobStore(f"file://{tmp_path}").get(Blob("s3://elsewhere/run/key/0", "0" * 64, 1))


async def test_what_is_not_certified_is_not_streamed(dsn: str) -> None:
    """Nothing there, or small enough for the row: said, or given in one piece."""
    large = Large(dsn, None)
    await large.d.check().steps[ChargeResult].call(REQUEST)
    empty: Any = BlobStore(MemoryStore())

    with pytest.raises(LookupError, match="no certified"):
        [piece async for piece in stream_result(large.cache, empty, "order-1", KEY)]
    async with connected(dsn) as db:
        await db.execute(
            "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, certified_at) "
            "VALUES ('order-1', $1, 'at_least_once', 'certified', gen_random_uuid(), 'protobuf', $1, 'small', now())",
            KEY,
        )
    pieces = [piece async for piece in stream_result(large.cache, empty, "order-1", KEY)]
    await large.d.close()
    assert pieces == [b"small"]


async def test_a_large_result_is_kept_though_its_run_is_cancelled_while_it_is_put(dsn: str) -> None:
    """The effect happened: what cannot be undone is put away and certified to its end, and then the cancellation goes on."""
    putting = asyncio.Event()

    class Slow(BlobStore):
        async def put(self, run_id: str, key: str, body: bytes, /) -> Blob:
            putting.set()
            await asyncio.sleep(0.2)
            return await super().put(run_id, key, body)

    d = Docket(cache=PostgresCache(dsn), blobs=Slow(MemoryStore()))

    @d.step(cache_result="at_most_once")
    async def charge(request: OrderRequest) -> ChargeResult:
        return ChargeResult(charge_id=request.order_id * 300_000)

    running = asyncio.create_task(d.run("order-1", ChargeResult, REQUEST))
    await putting.wait()
    running.cancel()
    await asyncio.wait((running,))

    assert running.cancelled()
    found = await d.run("order-1", ChargeResult)
    await d.close()
    assert found.charge_id == REQUEST.order_id * 300_000
