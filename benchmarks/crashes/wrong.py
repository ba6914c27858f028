"""Caches with one plausible mistake each. A campaign that does not find them out proves nothing about the right one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from docket._core.record import Record
from docket.cache import Certificate, Move
from docket.postgres import PostgresCache


class Unfenced(PostgresCache):
    """Certifies whatever it is brought: the last writer wins, although the claim has passed to somebody else."""

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store a result over the one that stands."""
        standing = await super().certify(certificate)
        if standing.claim == certificate.nonce:
            return standing
        stored = certificate.stored
        await self._here().database.fetch(
            f"UPDATE {self.schema}.result SET state = 'certified', claim = $3::text::uuid, body = $4, view = NULL, "
            "serializer = $5, type = $6, lease_until = NULL, certified_at = coalesce(certified_at, clock_timestamp()) "
            "WHERE run_id = $1 AND key = $2",
            certificate.run_id, certificate.key, str(certificate.nonce), stored.body, stored.serializer, stored.type,
        )  # fmt: skip
        return dataclasses.replace(standing, state="certified", claim=certificate.nonce, stored=stored)


class TakesOver(PostgresCache):
    """Lets an at-most-once step run again when its holder's lease has ended, as if silence meant that nothing happened."""

    async def move(self, move: Move, /) -> Record | None:
        """Make a lost claim ready instead of doubtful."""
        return await super().move(dataclasses.replace(move, to="ready") if move.expired else move)


class Forgetful(PostgresCache):
    """Leaves ``synchronous_commit`` as the server has it: what was certified may be gone after a crash."""

    def __init__(self, source: str, **options: Any) -> None:
        super().__init__(source, **options)
        right = self._sql
        write = {shape: _careless(text) for shape, text in right.write.items()}
        begin, move = _careless(right.begin), _careless(right.move)
        wrong = dataclasses.replace(right, write=write, begin=begin, move=move)
        self._sql = self._line._sql = wrong  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _careless(sql: str) -> str:
    return sql.replace("'synchronous_commit', 'on'", "'synchronous_commit', 'off'")


CACHES: dict[str, Callable[..., PostgresCache]] = {
    "right": PostgresCache,
    "unfenced": Unfenced,
    "takes-over": TakesOver,
    "forgetful": Forgetful,
}
"""By name, for the command line."""
