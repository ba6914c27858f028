"""Tests of Docket."""
