"""What ``python -m docket`` can do: one module per command."""

from docket.commands import check, explain, graph, purge, release, rerun, schema, settle

COMMANDS = (check, graph, explain, schema, settle, release, rerun, purge)
"""In the order in which the help lists them."""
