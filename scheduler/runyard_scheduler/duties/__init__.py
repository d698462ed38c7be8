"""One duty, one file, one `run_once()` that returns how much it did."""

from runyard_scheduler.duties.admit import Admit
from runyard_scheduler.duties.deliver import Deliver
from runyard_scheduler.duties.duty import Duty, Punctual
from runyard_scheduler.duties.expire import Expire
from runyard_scheduler.duties.fire import Fire
from runyard_scheduler.duties.prune import Prune
from runyard_scheduler.duties.relay import Relay
from runyard_scheduler.duties.rescue import Rescue
from runyard_scheduler.duties.roll_up import RollUp
from runyard_scheduler.duties.sweep import Sweep

__all__ = [
    "Admit",
    "Deliver",
    "Duty",
    "Expire",
    "Fire",
    "Prune",
    "Punctual",
    "Relay",
    "Rescue",
    "RollUp",
    "Sweep",
]
