"""The live stream: committed events, token deltas and cancellations, over Redis to their followers; and wake-ups.

Nothing here is the truth: what is lost on the way is read from the database.

Channels: ``runyard:org:<id>`` (a JSON list of events), ``runyard:task:<id>`` (token deltas),
``runyard:worker:<id>`` (the id of a cancelled task), ``runyard:all`` (``{"gap": [organisation ids] or null}``).
Lists: ``runyard:wake:<runs or deliveries>:<id of the installation>``, see `wake_ups`.
"""

from runyard_common.stream.follower import Follower, listen_worker
from runyard_common.stream.live import Live
from runyard_common.stream.subscription import GAP, Events, Gap, Item, Subscription, Tokens

__all__ = ["GAP", "Events", "Follower", "Gap", "Item", "Live", "Subscription", "Tokens", "listen_worker"]
