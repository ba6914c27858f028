"""A shop behind HTTP: runs inside a handler, runs handed to a queue, and what a client sees of either.

Once, with ``DATABASE_URL`` set: ``python -m docket schema apply`` and
``python -m procrastinate --app=examples.fastapi_app.shop.procrastinate_app schema --apply``. Then
``uvicorn examples.fastapi_app.app:app``, beside
``python -m procrastinate --app=examples.fastapi_app.shop.procrastinate_app worker``.
"""
