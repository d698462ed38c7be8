"""Lists that their contract gives no pages: every item is shown, and behind a budget of bytes only its small fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from runyard_common.database import pages

Item = dict[str, Any]


def fitted(items: Iterable[Item], instead: Mapping[str, Any]) -> list[Item]:
    """These items. Once the fields that `instead` names hold more than `pages.MOST_BYTES` together, as JSON, they are
    replaced by its values where they are larger than `pages.SMALL`."""
    left, found = pages.MOST_BYTES, []
    for item in items:
        for name, replacement in instead.items():
            size = _size(item.get(name))
            if size > left and size > pages.SMALL:
                item = item | {name: replacement}  # noqa: PLW2901 - the caller's own stays as it is
            else:
                left -= size
        found.append(item)
    return found


def _size(value: Any) -> int:
    return len(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str))
