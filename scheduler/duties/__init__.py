"""One duty, one file, one `run_once()` that says how much it did."""

from scheduler.duties.admit import Admit
from scheduler.duties.deliver import Deliver
from scheduler.duties.duty import Duty, Punctual
from scheduler.duties.expire import Expire
from scheduler.duties.fire import Fire
from scheduler.duties.prune import Prune
from scheduler.duties.relay import Relay
from scheduler.duties.rescue import Rescue
from scheduler.duties.sweep import Sweep

__all__ = ["Admit", "Deliver", "Duty", "Expire", "Fire", "Prune", "Punctual", "Relay", "Rescue", "Sweep"]
