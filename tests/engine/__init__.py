"""The engine, how it calls steps, and what callers share."""
