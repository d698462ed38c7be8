"""What the user is told once everything is up."""

from __future__ import annotations

from rich.console import Console

from runyard_launch.home_server import sign_in_link
from runyard_launch.parts import Plan


def print_welcome(console: Console, plan: Plan, demo: bool) -> None:
    """Addresses, a link that signs in, the place of the key, a curl line to paste, and the truth about the model."""
    url, key = plan.settings.base_url, plan.home.admin_key
    rows = {
        "console": f"{url}/console",
        "api": f"{url}/api/v1",
        "docs": f"{url}/docs",
        "admin key": str(key),
        "logs": str(plan.home.logs),
        "sign in": sign_in_link(plan.home.path, plan.local_url),
    }
    console.print()
    for label, text in rows.items():
        console.print(f"  [bold]{label:<10}[/] {text}", soft_wrap=True, highlight=False)
    console.print(" " * 13 + "(once, within ten minutes; `runyard console` makes another)", style="dim")
    model = plan.model.name + (f" ({plan.model.remark})" if plan.model.remark else "")
    console.print(f"  [bold]{'model':<10}[/] {model}", soft_wrap=True, highlight=False)
    if demo:
        console.print("\n  Try it:\n", style="dim")
        console.print(curl_line(url, str(key)), soft_wrap=True, highlight=False, markup=False)
    elif not plan.settings.agent_sources:
        console.print(
            "\n  No agents are named: set RUNYARD_AGENTS, or see the examples with --demo.", style="dim"
        )
    console.print("\n  Ctrl-C stops everything.", style="dim")


def curl_line(url: str, key_file: str) -> str:
    """A request that can be pasted as it is."""
    body = (
        '{"args": {"ticketId": "T-1", "priority": "high", "language": "en"}, "query": "I was charged twice."}'
    )
    return (
        f"curl -s '{url}/api/v1/agents/@demo/support_triage/run' "
        f"-H \"Authorization: Bearer $(cat '{key_file}')\" -H 'Content-Type: application/json' -d '{body}'"
    )
