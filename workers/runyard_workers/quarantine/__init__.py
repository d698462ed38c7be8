"""Child processes for runs whose process died: the one that ends its process ends no other."""

from __future__ import annotations

from runyard_workers.quarantine.ward import Quarantine

__all__ = ["Quarantine"]
