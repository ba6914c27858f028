"""The demo, run and killed."""
