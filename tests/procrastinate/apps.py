"""Procrastinate apps for tests."""

from typing import Any

import procrastinate
from procrastinate.connector import BaseConnector


def app_on(connector: BaseConnector) -> procrastinate.App:
    """Make an app with one task, ``ship``, in the queue ``orders``."""
    app = procrastinate.App(connector=connector)

    @app.task(name="ship", queue="orders")
    async def ship(**_arguments: Any) -> None: ...

    return app
