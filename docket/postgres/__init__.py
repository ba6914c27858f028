"""Certified results in PostgreSQL, through asyncpg."""

from docket.postgres.cache import PostgresCache as PostgresCache

__all__ = ["PostgresCache"]
