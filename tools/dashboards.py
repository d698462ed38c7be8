#!/usr/bin/env python3
"""Writes deploy/grafana/*.json: the dashboards, put together from the queries below. `--check` compares only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana import Panel, dashboard

FOLDER = Path(__file__).parents[1] / "deploy/grafana"


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """The sum of a counter's rates, by some labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{labels}[$__rate_interval]))"


def quantiles(metric: str, *qs: float, by: str = "", legend: str = "") -> tuple[tuple[str, str], ...]:
    """Quantiles of a histogram."""
    more = f", {by}" if by else ""
    return tuple(
        (
            f"histogram_quantile({q}, sum by (le{more}) (rate({metric}_bucket[$__rate_interval])))",
            f"p{round(q * 100)}{legend}",
        )
        for q in qs
    )


def stat(title: str, query: str, unit: str = "short", text: str = "") -> Panel:
    """One number."""
    return Panel(title, ((query, ""),), unit, "stat", 4, 4, text)


OVERVIEW = [
    stat("Pending", "max(runyard_waiting)", text="Runs that nothing but a free slot keeps."),
    stat("Running", "max(runyard_running)"),
    stat("Queued", "max(runyard_queued)", text="Kept by a limit or a back-off, or waiting for something."),
    stat("Waiting for people", "max(runyard_waiting_for_input) + max(runyard_awaiting_review)"),
    stat("Oldest pending run", "max(runyard_oldest_waiting_s)", "s"),
    stat("Slots in use", "max(runyard_running) / clamp_min(max(runyard_capacity), 1)", "percentunit"),
    Panel(
        "Runs by what happens to them",
        (
            (
                rate("runyard_run_events_total", "event", '{event=~"submit|hold|finish|fail|expire|stop"}'),
                "{{event}}",
            ),
        ),
        "ops",
        width=12,
    ),
    Panel(
        "From submission to the first start", quantiles("runyard_run_wait_seconds", 0.5, 0.95), "s", width=6
    ),
    Panel(
        "Attempts",
        quantiles("runyard_attempt_seconds", 0.5, 0.95),
        "s",
        width=6,
        text="From the claim to the end of an attempt.",
    ),
    Panel(
        "What keeps runs",
        (("max by (by) (runyard_queue_runs)", "{{by}}"),),
        width=12,
        stacked=True,
        text="worker: a free slot; limit_…: the kind of the limit that is full.",
    ),
    Panel("The oldest of them", (("max by (by) (runyard_queue_oldest_seconds)", "{{by}}"),), "s", width=12),
    Panel(
        "Failures by cause",
        ((rate("runyard_run_failures_total", "cause"), "{{cause}}"),),
        "ops",
        stacked=True,
    ),
    Panel(
        "Retries by cause", ((rate("runyard_run_retries_total", "cause"), "{{cause}}"),), "ops", stacked=True
    ),
    Panel(
        "Runs rescued",
        ((rate("runyard_runs_rescued_total", "loss"), "{{loss}}"),),
        "ops",
        stacked=True,
        text="Runs that lost their process and were handed on.",
    ),
    Panel(
        "Requests by status",
        ((rate("runyard_http_requests_total", "status"), "{{status}}"),),
        "reqps",
        stacked=True,
    ),
    Panel(
        "Slowest operations, p95",
        (
            (
                (
                    "topk(10, histogram_quantile(0.95, sum by (le, operation) "
                    "(rate(runyard_http_seconds_bucket[$__rate_interval]))))"
                ),
                "{{operation}}",
            ),
        ),
        "s",
        text="Operations that wait for a run take as long as it does.",
    ),
    Panel(
        "Open streams and waiting callers",
        (("sum(runyard_streams_open)", "streams"), ("sum(runyard_waiters_open)", "waiting callers")),
    ),
]

WORKERS = [
    stat("Workers", "max(runyard_workers)"),
    stat("Wanted", "max(runyard_wanted_workers)", text="What the work there is would fill."),
    stat("Slots", "max(runyard_capacity)"),
    stat("Draining", "sum(runyard_worker_draining)"),
    stat("Runs without a worker", "max(runyard_without_worker)", text="No live worker has their agent."),
    stat("Threads left busy", "max(runyard_threads_held)", text="By runs that have ended."),
    Panel(
        "Slots in use",
        (
            ("sum by (instance) (runyard_worker_slots_in_use)", "{{instance}}"),
            ("sum(runyard_worker_slots)", "all slots"),
        ),
        width=12,
    ),
    Panel(
        "Claims by what they got",
        ((rate("runyard_claims_total", "got"), "{{got}}"),),
        "ops",
        width=6,
        stacked=True,
    ),
    Panel("From pending to claimed", quantiles("runyard_claim_wait_seconds", 0.5, 0.95), "s", width=6),
    Panel(
        "Event loop lag, p99",
        quantiles("runyard_event_loop_lag_seconds", 0.99, by="instance", legend=" {{instance}}"),
        "s",
        text="Agents that compute or block in async code hold up all others of their worker.",
    ),
    Panel(
        "Attempts by how they end",
        ((rate("runyard_attempt_seconds_count", "outcome"), "{{outcome}}"),),
        "ops",
        stacked=True,
    ),
    Panel(
        "Leases and workers lost",
        (
            (rate("runyard_leases_lost_total"), "leases lost by workers that lived"),
            (rate("runyard_workers_lost_total"), "workers lost"),
        ),
        "ops",
    ),
    Panel(
        "Commands in a transaction",
        (
            (
                (
                    f"{rate('runyard_group_commit_commands_sum', 'instance')} / "
                    f"{rate('runyard_group_commit_commands_count', 'instance')}"
                ),
                "{{instance}}",
            ),
        ),
        text="Above 1 a commit is shared: the load is high, or the database slow.",
    ),
    Panel(
        "Transactions, p95",
        quantiles("runyard_group_commit_seconds", 0.95, by="instance", legend=" {{instance}}"),
        "s",
    ),
    Panel(
        "Rescues by loss", ((rate("runyard_runs_rescued_total", "loss"), "{{loss}}"),), "ops", stacked=True
    ),
    Panel(
        "Processor",
        (("sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{instance}}"),),
        "percentunit",
    ),
    Panel("Memory", (("sum by (instance) (process_resident_memory_bytes)", "{{instance}}"),), "bytes"),
    Panel(
        "File descriptors",
        (("max by (instance) (process_open_fds / process_max_fds)", "{{instance}}"),),
        "percentunit",
    ),
]

MODELS = [
    Panel(
        "Cost in this time",
        (("sum by (model) (increase(runyard_model_cost_usd_total[$__range]))", "{{model}}"),),
        "currencyUSD",
        "bargauge",
        12,
        8,
    ),
    Panel(
        "Tokens in this time",
        (("sum by (kind) (increase(runyard_model_tokens_total[$__range]))", "{{kind}}"),),
        "short",
        "bargauge",
        12,
        8,
        "Cached tokens are input, too.",
    ),
    Panel(
        "Cost an hour",
        ((f"3600 * {rate('runyard_model_cost_usd_total', 'model')}", "{{model}}"),),
        "currencyUSD",
        width=12,
        stacked=True,
    ),
    Panel(
        "Turns", ((rate("runyard_model_turns_total", "model"), "{{model}}"),), "ops", width=12, stacked=True
    ),
    Panel(
        "Input tokens",
        ((rate("runyard_model_tokens_total", "model", '{kind="input"}'), "{{model}}"),),
        "ops",
        stacked=True,
    ),
    Panel(
        "Output tokens",
        ((rate("runyard_model_tokens_total", "model", '{kind="output"}'), "{{model}}"),),
        "ops",
        stacked=True,
    ),
    Panel(
        "Share of input that was cached",
        (
            (
                (
                    'sum by (model) (rate(runyard_model_tokens_total{kind="cached"}[$__rate_interval])) / '
                    'sum by (model) (rate(runyard_model_tokens_total{kind="input"}[$__rate_interval]))'
                ),
                "{{model}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Retries and failures of providers",
        (
            (rate("runyard_run_retries_total", labels='{cause="provider"}'), "retries"),
            (rate("runyard_run_failures_total", labels='{cause="provider"}'), "failures"),
        ),
        "ops",
        width=12,
    ),
    Panel(
        "Failures by limits and budgets",
        ((rate("runyard_run_failures_total", labels='{cause="limit"}'), "limit"),),
        "ops",
        width=12,
    ),
]

DELIVERIES = [
    stat("Overdue delivery", "max(runyard_deliveries_overdue_seconds)", "s"),
    stat(
        "Deliveries that worked",
        'sum(rate(runyard_deliveries_total{outcome="success"}[$__range])) / '
        "sum(rate(runyard_deliveries_total[$__range]))",
        "percentunit",
    ),
    stat("Dead in this time", 'sum(increase(runyard_deliveries_total{outcome="dead"}[$__range]))'),
    stat("Overdue schedule", "max(runyard_schedules_overdue_seconds)", "s"),
    stat(
        "Runs of schedules in this time",
        'sum(increase(runyard_schedule_occurrences_total{outcome="fired"}[$__range]))',
    ),
    stat(
        "Missed or refused",
        'sum(increase(runyard_schedule_occurrences_total{outcome=~"missed|failed"}[$__range]))',
    ),
    Panel(
        "Deliveries by outcome",
        ((rate("runyard_deliveries_total", "to, outcome"), "{{to}} {{outcome}}"),),
        "ops",
        width=12,
        stacked=True,
    ),
    Panel("Calls of receivers", quantiles("runyard_delivery_seconds", 0.5, 0.95), "s", width=12),
    Panel(
        "Due times of schedules",
        ((rate("runyard_schedule_occurrences_total", "outcome"), "{{outcome}}"),),
        "ops",
        width=12,
        stacked=True,
    ),
    Panel(
        "How late runs of schedules are",
        quantiles("runyard_schedule_lateness_seconds", 0.5, 0.95),
        "s",
        width=12,
    ),
    Panel(
        "Duties of the scheduler, p95",
        quantiles("runyard_duty_seconds", 0.95, by="duty", legend=" {{duty}}"),
        "s",
        width=12,
    ),
    Panel(
        "Duties that failed", ((rate("runyard_duty_failures_total", "duty"), "{{duty}}"),), "ops", width=12
    ),
]

DASHBOARDS = {
    "overview": ("Runyard: overview", OVERVIEW),
    "workers": ("Runyard: workers", WORKERS),
    "models": ("Runyard: models and cost", MODELS),
    "deliveries": ("Runyard: webhooks and schedules", DELIVERIES),
}


def main() -> None:
    """Write the files, or see whether they are as they would be written."""
    FOLDER.mkdir(exist_ok=True)
    for name, (title, panels) in DASHBOARDS.items():
        file, text = FOLDER / f"{name}.json", json.dumps(dashboard(name, title, panels), indent=1) + "\n"
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"{file} is not as tools/dashboards.py writes it: run it")


if __name__ == "__main__":
    main()
