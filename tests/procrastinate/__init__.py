"""Tests of the Procrastinate driver and connector."""
