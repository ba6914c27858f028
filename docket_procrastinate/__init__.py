"""Docket's driver for Procrastinate, and a connector for Procrastinate over asyncpg."""

from docket_procrastinate._defer import defer_on_asyncpg
from docket_procrastinate.connector import AsyncpgConnector
from docket_procrastinate.queue import ProcrastinateQueue

__all__ = ["AsyncpgConnector", "ProcrastinateQueue", "defer_on_asyncpg"]
