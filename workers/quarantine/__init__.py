"""Child processes for runs whose process died: the one that ends its process ends alone."""

from __future__ import annotations

from workers.quarantine.ward import Quarantine

__all__ = ["Quarantine"]
