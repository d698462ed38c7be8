"""Sums by spans of time, and how far they have got."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer

from runyard_common.database import columns as c


def _step() -> Column[int]:
    """Length of the span in seconds."""
    return Column(Integer, primary_key=True)


def _at() -> Column[int]:
    """Beginning of the span, a multiple of its length in epoch seconds."""
    return Column(BigInteger, primary_key=True)


class Statistic(c.Table):
    """What the runs of an organisation did in a span of time. Organisation "*" has the sums of all.

    Kind "" is all of its runs; others are those of one agent, key or end user, or the turns of one model (`name`).
    """

    __tablename__ = "statistics"
    __table_args__ = (Index("ix_statistics_at", "step", "at"),)

    org_id = c.key()
    kind = c.text(length=16, primary_key=True)
    step = _step()
    at = _at()
    name = c.text(length=200, primary_key=True)
    submitted = c.integer()
    completed = c.integer()
    failed = c.integer()
    stopped = c.integer()
    turns = c.integer()
    input_tokens = c.integer()
    output_tokens = c.integer()
    cached_tokens = c.integer()
    cost_micros = c.integer()
    distributions = c.json()  # {"wait:12": 3, …}: see `rules`


class QueueSample(c.Table):
    """How much work of an organisation there was at the samples of a span of time. Organisation "*" has all work.

    Kinds: `status` (unfinished runs), `blocker` (queued runs by what keeps them), `workers` and `samples` (how many
    there were), the last two of organisation "*" alone.
    """

    __tablename__ = "queue_samples"
    __table_args__ = (Index("ix_queue_samples_at", "step", "at"),)

    org_id = c.key()
    kind = c.text(length=16, primary_key=True)
    step = _step()
    at = _at()
    name = c.text(length=200, primary_key=True)
    total = c.integer()  # the sum of the samples
    peak = c.integer()


class StatisticsProgress(c.Table):
    """How far the sums have got, one row: the minutes before `counted` were counted, those before `settled` twice."""

    __tablename__ = "statistics_progress"

    id = c.key()
    revision = c.integer()  # changes with every write: who counted by an older one starts over
    counted = c.integer()
    settled = c.integer()
    sampled = c.integer()  # the minute of the last sample of the queue
    at = c.instant()  # when the sums were last brought up to date
