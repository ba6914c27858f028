"""Tests of the driver for PgQueuer, on its real queue."""
