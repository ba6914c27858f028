"""Certified results: their life, their caches, and what faults do to them."""
