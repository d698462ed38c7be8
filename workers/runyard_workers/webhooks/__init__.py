"""Webhook deliveries: claimed in batches, signed, sent, and settled, beside the runs on the same loop."""

from runyard_workers.webhooks.deliverer import Deliverer
from runyard_workers.webhooks.keys import Keys

__all__ = ["Deliverer", "Keys"]
