"""Programs to run and to read: Docket at work."""
