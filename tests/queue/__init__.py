"""Tests of the queue driver protocol and of the driver in this process."""
