"""What every process needs of the contract."""

from __future__ import annotations

from typing import Final

from runyard_common.surfaces import ApiSurface

SURFACE: Final = ApiSurface("nugen", __package__, ("runs", "agents"), order=20)
