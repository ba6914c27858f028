"""What a run is, decided before anything runs: no loop, no clock, no database.

`types` reads annotations, `step` a function, `wiring` a whole graph; `plan` finds the least work to a target. What is known
about a run comes in as a `record`.
"""
