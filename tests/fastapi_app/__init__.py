"""Tests of the FastAPI example, through a real server."""
