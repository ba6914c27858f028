"""An expense claim that waits for a person, across processes and deployments: ``python -m examples.approval``."""
