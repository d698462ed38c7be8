"""`runyard webhooks`: signed calls to other servers, what became of them, and sending them once more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from runyard_launch.cli.listing import Limit, at, rows
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, show
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows
from runyard_launch.problems import CommandFailed

if TYPE_CHECKING:
    from runyard import Client

app = typer.Typer(no_args_is_help=True, help="Send signed callbacks, and see what became of them.")
Webhook = Annotated[str, typer.Argument(help="The webhook's id (`runyard webhooks list`).")]
_COLUMNS = {
    "id": "webhook", "url": "address", "events": "events", "active": "active", "failing_since": "failing since",
    "disabled_reason": "off because",
}  # fmt: skip
_DELIVERIES = {
    "id": "delivery", "event_type": "event", "state": "state", "attempt": "attempts", "status_code": "answer",
    "task_id": "task", "error": "error", "created_at": "made",
}  # fmt: skip
_ATTEMPTS = {
    "attempt": "attempt", "at": "over", "status_code": "answer", "latency_ms": "ms", "error": "error",
}  # fmt: skip
#: States of a delivery that is not tried again by itself.
_SETTLED: Final = ("success", "dead")


@app.command("list")
def list_webhooks(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List webhooks."""
    with connected(url, key_file) as client:
        found = ask(client, "GET", "/webhooks")["data"]
    print_rows(found, _COLUMNS, as_json)


@app.command(
    epilog=examples(
        "runyard webhooks create https://example.com/hooks --event run.completed --event run.failed",
        "runyard webhooks create https://example.com/hooks --agent @demo/echo --json",
    )
)
def create(
    address: Annotated[str, typer.Argument(help="Where to send: an https URL.")],
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", help="Which events, such as run.failed; repeat the option for more. All without."
        ),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Leave input and output out.")] = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook, and show its secret once.

    The secret goes to standard output: receivers check signatures with it.
    """
    body: dict[str, Any] = {"url": address, "payload_mode": "summary" if summary else "full"}
    body |= {"events": list(event)} if event else {}
    body |= {"agent": agent} if agent else {}
    with connected(url, key_file) as client:
        made = ask(client, "POST", "/webhooks", body)
    if as_json:
        show(made, as_json)
    else:
        typer.echo(f"Webhook {made['id']}; its secret is not shown again.", err=True)
        typer.echo(made["secret"])


@app.command("test")
def send_test(
    webhook: Webhook,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for the receiver.")] = 20.0,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a test event, and wait for what the receiver answers.

    The exit code is 1 where it was not delivered in that time.
    """
    with connected(url, key_file) as client:
        sent = ask(client, "POST", at("/webhooks/{}/test", webhook), {})
        delivery = _settled(client, sent["delivery_id"], wait)
    if delivery["state"] != "success":
        why = (delivery["error"] or f"its state is {delivery['state']}").removesuffix(".")
        raise CommandFailed(
            f"The test was not delivered: {why}. Attempts so far: {delivery['attempt']}; the answer was "
            f"{delivery['status_code'] or 'none'}.",
            "not_delivered",
            delivery_id=delivery["id"],
            state=delivery["state"],
        )
    done(f"Delivered: {delivery['status_code']} after {delivery['latency_ms']} ms.", delivery, as_json)


def _settled(client: Client, delivery_id: str, wait: float) -> dict[str, Any]:
    """The delivery once it was tried, or as it is after so many seconds."""
    deadline = time.monotonic() + wait
    while True:
        found: dict[str, Any] = ask(client, "GET", at("/deliveries/{}", delivery_id))
        if found["state"] in _SETTLED or found["error"] or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


@app.command()
def enable(webhook: Webhook, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Send to a webhook again."""
    with connected(url, key_file) as client:
        changed = ask(client, "POST", at("/webhooks/{}/enable", webhook), {})
    done(f"Webhook {webhook} is active.", changed, as_json)


@app.command()
def disable(webhook: Webhook, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Send nothing to a webhook from now on."""
    with connected(url, key_file) as client:
        changed = ask(client, "POST", at("/webhooks/{}/disable", webhook), {})
    done(f"Webhook {webhook} is off.", changed, as_json)


@app.command()
def rotate(webhook: Webhook, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Give a webhook a new secret, and show it once.

    The secret goes to standard output; the old one signs beside it for a time.
    """
    with connected(url, key_file) as client:
        made = ask(client, "POST", at("/webhooks/{}/rotate", webhook), {})
    if as_json:
        show(made, as_json)
    else:
        typer.echo(f"The old secret signs beside it until {made['old_secret_until']}.", err=True)
        typer.echo(made["secret"])


@app.command()
def delete(webhook: Webhook, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Delete a webhook, and what was still to be sent."""
    with connected(url, key_file) as client:
        ask(client, "DELETE", at("/webhooks/{}", webhook))
    done(f"Webhook {webhook} is deleted.", {"id": webhook, "deleted": True}, as_json)


@app.command()
def deliveries(
    webhook: Annotated[str | None, typer.Argument(help="Only those of this webhook.")] = None,
    task: Annotated[str | None, typer.Option(help="Only those of this task.")] = None,
    state: Annotated[str | None, typer.Option(help="Only of this state, pending, success or dead.")] = None,
    limit: Limit = 20,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    path = "/deliveries"
    if webhook is not None:
        path = at("/webhooks/{}/deliveries", webhook)
    elif task is not None:
        path = at("/tasks/{}/deliveries", task)
    with connected(url, key_file) as client:
        found = rows(client, path, limit, state=state)
    print_rows(found, _DELIVERIES, as_json)


@app.command()
def attempts(
    delivery: Annotated[str, typer.Argument(help="The delivery's id (`runyard webhooks deliveries`).")],
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List what came of a delivery's attempts, the newest last."""
    with connected(url, key_file) as client:
        found = ask(client, "GET", at("/deliveries/{}", delivery))
    print_rows(found["attempts"], _ATTEMPTS, as_json)


@app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(help="The delivery's id (`runyard webhooks deliveries`).")],
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a delivery once more, under its id."""
    with connected(url, key_file) as client:
        answer = ask(client, "POST", at("/deliveries/{}/redeliver", delivery), {})
    done(f"Delivery {delivery} is sent once more.", answer, as_json)


@app.command()
def replay(
    webhook: Webhook,
    state: Annotated[str | None, typer.Option(help="Only of this state; dead where none is given.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event, such as run.failed.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those made since (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(help="Only those made before (RFC 3339).")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a webhook's deliveries of a time once more.

    Such as after an outage of its receiver.
    """
    given = {"state": state, "event": event, "created_after": since, "created_before": until}
    body = {name: value for name, value in given.items() if value is not None}
    count, ids = 0, []
    with connected(url, key_file) as client:
        while True:
            answer = ask(client, "POST", at("/webhooks/{}/replay", webhook), body)
            count += answer["count"]
            ids += answer["delivery_ids"]
            if not answer["has_more"] or not answer["count"]:
                break
            body["settled_before"] = answer["settled_before"]
    done(f"{count} are sent once more.", {"count": count, "delivery_ids": ids}, as_json)
