"""What ``python -m docket`` can do: one module per command."""

from docket.commands import check, enqueue, explain, graph, invalidate, purge, release, schema, settle

COMMANDS = (check, graph, explain, schema, settle, release, invalidate, enqueue, purge)
"""In the order in which the help lists them."""
