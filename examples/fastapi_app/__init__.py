"""A shop behind HTTP: runs inside a handler, runs handed to a queue, and what a client sees of either.

``uvicorn examples.fastapi_app.app:app``, beside ``procrastinate --app=examples.fastapi_app.shop.procrastinate_app worker``.
"""
