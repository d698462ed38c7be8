"""One duty, one file, one `run_once()` that says how much it did."""

from scheduler.duties.admit import Admit
from scheduler.duties.deliver import Deliver
from scheduler.duties.duty import Duty, Punctual
from scheduler.duties.expire import Expire
from scheduler.duties.fire import Fire
from scheduler.duties.relay import Relay
from scheduler.duties.rescue import Rescue

__all__ = ["Admit", "Deliver", "Duty", "Expire", "Fire", "Punctual", "Relay", "Rescue"]
