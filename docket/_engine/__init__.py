"""Carrying a plan out in memory: `execution` is the only loop that awaits steps, `calls` says how each is called."""
