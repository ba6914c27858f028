"""Synchronous callers of an open connector: their statements run on its event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector, BaseConnector

_T = TypeVar("_T")


class ThreadBridge(BaseConnector):
    """Runs the statements of other threads on the event loop that a connector is open in, and waits for them.

    Procrastinate's synchronous calls (``task.defer()`` in a synchronous task, say) come here from any thread but the
    loop's own. A pool belongs to its loop, so a loop of the calling thread's own would not do.

    Args:
        connector: The open connector.
        loop: The event loop it was opened in.
    """

    def __init__(self, connector: BaseAsyncConnector, loop: asyncio.AbstractEventLoop) -> None:
        self._connector = connector
        self._loop = loop

    def get_sync_connector(self) -> BaseConnector:
        """Return this connector."""
        return self

    def execute_query(self, query: str, **arguments: Any) -> None:
        """Run a statement for its effect; see `AsyncpgConnector.execute_query_async`."""
        self._wait_for(self._connector.execute_query_async(query, **arguments))  # pyright: ignore[reportArgumentType]

    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Run a statement for its first row; see `AsyncpgConnector.execute_query_one_async`."""
        return self._wait_for(
            self._connector.execute_query_one_async(query, **arguments)  # pyright: ignore[reportArgumentType]
        )

    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a statement for its rows; see `AsyncpgConnector.execute_query_all_async`."""
        return self._wait_for(
            self._connector.execute_query_all_async(query, **arguments)  # pyright: ignore[reportArgumentType]
        )

    def execute_query_one_with_connection(self, connection: Any, query: str, **arguments: Any) -> dict[str, Any]:
        """Run a statement on a connection of the loop's; see `AsyncpgConnector.execute_query_one_async_with_connection`."""
        return self._wait_for(
            self._connector.execute_query_one_async_with_connection(
                connection,
                query,  # pyright: ignore[reportArgumentType]
                **arguments,
            )
        )

    def execute_query_all_with_connection(self, connection: Any, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a statement on a connection of the loop's; see `AsyncpgConnector.execute_query_all_async_with_connection`."""
        return self._wait_for(
            self._connector.execute_query_all_async_with_connection(
                connection,
                query,  # pyright: ignore[reportArgumentType]
                **arguments,
            )
        )

    def _wait_for(self, statement: Coroutine[Any, Any, _T]) -> _T:
        if not self._loop.is_running() or _running_loop() is self._loop:
            statement.close()
            raise exceptions.SyncConnectorConfigurationError(
                "A synchronous call was made in the thread of the event loop that the connector is open in, or after "
                "that loop ended; it would wait for itself. Await the asynchronous call (defer_async for defer), or "
                "make this one in a thread (asyncio.to_thread)."
            )
        return asyncio.run_coroutine_threadsafe(statement, self._loop).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
