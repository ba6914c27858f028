"""An order from request to shipment, while workers are killed.

`app` is what a team would write: the steps and their Docket. `provider` plays the payment provider.
``python -m examples.orders`` runs twenty orders through real workers and kills two of them; ``--queue`` says whose workers.
"""

from examples.orders.app import d as d
from examples.orders.app import procrastinate_app as procrastinate_app

__all__ = ["d", "procrastinate_app"]
