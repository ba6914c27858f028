"""How much memory it takes to read a large certified result piece by piece.

Run it as ``python -m benchmarks.streaming``. It certifies a result of 500 MB and reads it again in processes of their own, from
a folder and from a server that speaks S3, which it starts. A process's memory is its peak resident set as the system counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from docket import Docket, Graph
from docket.blobs import BlobStore, stream_result
from docket.cache import Cache
from docket.postgres import PostgresCache
from docket.postgres.embedded import fresh_database, postgres_server
from examples.orders.orders_pb2 import OrderRequest, Reservation

SCHEMA = Path(__file__).parents[1] / "schema.sql"

RUN, KEY = "large-1", "large"

graph = Graph()


@graph.step(cache_result="at_least_once", key=KEY)
async def reserve(request: OrderRequest) -> Reservation:
    """Give a reservation of as many bytes as were ordered."""
    return Reservation(reservation_id="x" * request.quantity)


def megabytes() -> float:
    """Return the peak of this process's resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


async def write(cache: Cache, blobs: BlobStore, size: int) -> None:
    """Certify a result of *size* megabytes."""
    d = Docket(cache=cache, blobs=blobs)
    d.include(graph)
    await d.run(RUN, Reservation, OrderRequest(quantity=size * 1_000_000))


async def read(cache: Cache, blobs: BlobStore) -> None:
    """Read it piece by piece, and print what that took."""
    before, begun, size = megabytes(), time.perf_counter(), 0
    async for piece in stream_result(cache, blobs, RUN, KEY):
        size += len(piece)
    print(f"{size / 1e6:6.0f} MB in {time.perf_counter() - begun:5.1f} s, {megabytes() - before:5.1f} MB of memory more")


async def part(arguments: argparse.Namespace) -> None:
    """Do one part, in a process of its own."""
    cache = PostgresCache(arguments.dsn)
    if arguments.part == "read":
        await read(cache, store(arguments.where))
    else:
        await write(cache, store(arguments.where), arguments.size)
    await cache.close()


def store(where: str) -> BlobStore:
    """Return the store at a folder's URL or at the address of a local S3 server."""
    if where.startswith("file:"):
        return BlobStore(where)
    return BlobStore(
        "s3://results", endpoint=f"http://{where}", region="us-east-1", access_key_id="any", secret_access_key="any",
        virtual_hosted_style_request=False, client_options={"allow_http": True, "timeout": "10min"},
    )  # fmt: skip


@asynccontextmanager
async def s3() -> AsyncGenerator[str]:
    """Start a server that speaks S3, with one bucket; give its address."""
    program = Path(sys.executable).parent / "moto_server"
    process = await asyncio.create_subprocess_exec(
        str(program), "-p", "0", stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    try:
        line = ""
        while "http://" not in line:
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
        address = line.split("http://")[1].split()[0]
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(f"PUT /results HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await reader.read()
        writer.close()
        yield address
    finally:
        process.terminate()
        await process.wait()


async def ran(name: str, dsn: str, where: str, size: int) -> None:
    """Run one part of this program and wait for it."""
    words = ["--part", name, "--dsn", dsn, "--where", where, "--size", str(size)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.streaming", *words)
    if await process.wait():
        raise SystemExit(f"the part {name!r} failed")


async def main(arguments: argparse.Namespace) -> None:
    """Write and read the result in each store."""
    async with postgres_server() as server, s3() as address:
        with tempfile.TemporaryDirectory() as folder:
            places: dict[str, Any] = {"a folder": f"file://{folder}/results", "S3": address}
            for label, where in places.items():
                async with fresh_database(server, prefix="docket_benchmark") as dsn:
                    database = await asyncpg.connect(dsn)
                    await database.execute(SCHEMA.read_text())
                    await database.close()
                    await ran("write", dsn, where, arguments.size)
                    print(f"{label:10}", end="", flush=True)
                    await ran("read", dsn, where, arguments.size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=500, help="megabytes")
    parser.add_argument("--part", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--dsn", default=os.environ.get("DATABASE_URL", ""), help=argparse.SUPPRESS)
    parser.add_argument("--where", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    asyncio.run(part(parsed) if parsed.part else main(parsed))
