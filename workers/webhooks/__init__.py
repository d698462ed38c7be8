"""Webhook deliveries: claimed in batches, signed, sent, and settled, beside the runs on the same loop."""

from workers.webhooks.bell import NearBell
from workers.webhooks.deliverer import Deliverer
from workers.webhooks.keys import Keys

__all__ = ["Deliverer", "Keys", "NearBell"]
