"""The toolbox applies what a manifest reviews, however the tool is called."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_workers.agent.tools import Tool, Toolbox


async def _nothing(_: Any) -> None: ...


@pytest.mark.parametrize("server", ["crm", "my_crm", "crm-2"])
@pytest.mark.parametrize("reviewed", ["{tool}", "{server}_{tool}"])
def test_a_servers_tool_is_reviewed_by_its_own_name_and_by_the_agents(server: str, reviewed: str) -> None:
    toolbox = Toolbox([reviewed.format(server=server, tool="send_money")])
    toolbox.add([Tool(f"{server}_send_money", "", {}, _nothing, source=f"mcp:{server}")])
    toolbox.add([Tool(f"{server}_balance", "", {}, _nothing, source=f"mcp:{server}")])
    assert [tool.review for tool in toolbox] == [True, False]


def test_a_second_tool_of_the_name_is_reviewed_too() -> None:
    toolbox = Toolbox(["pay"])
    toolbox.add([Tool("pay", "", {}, _nothing, source="python")] * 2)
    assert [(tool.name, tool.review) for tool in toolbox] == [("pay", True), ("pay_2", True)]
