"""A storm: runs of every kind, poison among them, and blows on everything that runs them; then the verdict.

python -m tests.chaos.storm [--runs 2000] [--poison 5] [--seconds 240] [--database postgres|sqlite]
    [--broker valkey|redis|rabbitmq] [--blows worker-kill,database-crash | none] [--without worker-stop] [--seed 1] …
python -m tests.chaos.storm --plan NAME

It ends by itself: submitting, striking and waiting for the last runs each have their time.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos import evidence as evidence_of
from tests.chaos.blows import BLOWS, Hand, wait_for_claim
from tests.chaos.clocks import Clocks
from tests.chaos.crowd import Crowd
from tests.chaos.evidence import Evidence
from tests.chaos.findings import Verdict
from tests.chaos.installation import Installation, Shape, installed, keep_logs
from tests.chaos.memory import MemoryLimits
from tests.chaos.orders import INNOCENT, mix
from tests.chaos.pgbouncer import PgBouncer
from tests.chaos.plans import LIMITED, PLANS, Plan
from tests.chaos.poison import ENDS, HUNGRY
from tests.chaos.verdict import judge
from tests.delivering import ReceiverProcess
from tests.waiting import wait_until

#: What a worker may use where there is poison that takes all the memory there is, in bytes.
MEMORY = 900 * 2**20
#: How long the last runs may take in all, progress or not, in seconds.
_LONGEST = 1200.0


def run(plan: Plan) -> Verdict:
    """Carry out a plan; its verdict."""
    with tempfile.TemporaryDirectory(prefix="runyard-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        receiver = ReceiverProcess(folder / "received")
        try:
            with installed(plan.shape, folder) as site:
                found, blows = _weather(plan, site, receiver)
                found.received = receiver.received
                verdict = judge(found, plan.judged_by)
                verdict.blows = blows
                if not verdict.clean:
                    kept = keep_logs(site.processes)
                    print(f"The processes' logs are kept in {kept}", file=sys.stderr)
        finally:
            receiver.stop()
    return verdict


def _weather(plan: Plan, site: Installation, receiver: ReceiverProcess) -> tuple[Evidence, Counter[str]]:
    orders = mix(
        plan.runs, plan.seed, poison=plan.poison, poisons=plan.poisons, kinds=plan.kinds,
        callbacks=plan.callbacks, pause=plan.pause,
    )  # fmt: skip
    crowd = Crowd(site.processes, site.ledger, orders, receiver.url(plan.receiver))
    wait_until(lambda: len(site.rows("SELECT id FROM workers")) >= plan.shape.workers, seconds=90, every=0.2)
    crowd.set_limit(LIMITED, plan.limit)
    limit = crowd.set_limit("*", 0) if plan.wave else None
    hand = Hand(site, random.Random(plan.seed))
    crowd.start()
    try:
        if limit is not None:
            crowd.wait_submitted(60)
            if site.shape.forgets:
                site.forget_commits()
            crowd.lift_limit(limit)
        blows = _strike(plan, hand, crowd)
        hand.undo_due(everything=True)
        _wait_for_the_last(plan, hand, crowd)
    finally:
        hand.undo_due(everything=True)
        crowd.close()
    found = evidence_of.load(site.driver_url, crowd.accepted, site.ledger)
    found.refused = crowd.refused
    found.exits, found.struck, found.resumed = site.processes.exits, site.struck, hand.resumed
    return found, blows


def _strike(plan: Plan, hand: Hand, crowd: Crowd) -> Counter[str]:
    """Blow after blow, each as often as its share; the same order for the same seed."""
    possible = [name for name in plan.blows if BLOWS[name].possible(hand.site)]
    struck: Counter[str] = Counter()
    deck: list[str] = []
    began = last = time.monotonic()
    if plan.wave and possible:
        last = float("-inf")
        deck = _shuffled(possible, hand.chance)
        if not BLOWS[deck[-1]].waits:
            wait_for_claim(hand)
            time.sleep(0.5)  # all have begun
    while time.monotonic() - began < plan.seconds:
        _keep_up(hand)
        now = time.monotonic()
        if possible and now - last >= plan.every and now >= hand.exclusive_until:
            deck = deck or _shuffled(possible, hand.chance)
            name = deck.pop()
            BLOWS[name].strike(hand)
            struck[name] += 1
            last = time.monotonic()
        if not crowd.submitting and crowd.unfinished() == 0:
            break
        time.sleep(0.1)
    return struck


def _shuffled(names: Sequence[str], chance: random.Random) -> list[str]:
    """Each blow at least once, the frequent ones more often."""
    least = min(BLOWS[name].share for name in names)
    deck = [name for name in names for _ in range(round(BLOWS[name].share / least))]
    chance.shuffle(deck)
    return deck


def _keep_up(hand: Hand) -> None:
    hand.undo_due()
    hand.site.processes.supervise()


def _wait_for_the_last(plan: Plan, hand: Hand, crowd: Crowd) -> None:
    """Wait until all has ended, or nothing has ended for `plan.patience` seconds."""
    last = time.monotonic() + _LONGEST
    deadline, least = 0.0, float("inf")
    while time.monotonic() < min(last, deadline or last):
        _keep_up(hand)
        left = crowd.unfinished()
        if left >= 0:
            left += _pending_deliveries(hand.site)
            if left == 0 and not crowd.submitting:
                return
            if left < least or crowd.submitting:
                deadline, least = time.monotonic() + plan.patience, left
        time.sleep(0.3)


def _pending_deliveries(site: Installation) -> int:
    rows = site.rows("SELECT count(*) FROM deliveries WHERE state = 'pending'")
    return int(str(rows[0][0])) if rows else 0


def plan_of(given: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    if given.plan:
        return replace(PLANS[given.plan], seed=given.seed)
    blows = [] if given.blows == "none" else given.blows.split(",") if given.blows else list(BLOWS)
    blows = [name for name in blows if name not in given.without.split(",")]
    memory = MEMORY if given.poison and MemoryLimits.possible() else 0
    poisons = given.poisons.split(",") if given.poisons else list(ENDS)
    left_out = HUNGRY if not memory else ()
    shape = Shape(
        given.database, given.broker, given.workers, given.apis, lease=given.lease, pooler=given.pooler,
        clocks="clock-step" in blows and Clocks.possible(),
        small_disk="disk-full" in blows and given.database == "sqlite" and given.small_disk,
        memory=memory,
    )  # fmt: skip
    return Plan(
        shape, given.runs, given.seconds, given.every, blows, given.poison / 100,
        [kind for kind in poisons if kind not in left_out] if given.poison else [],
        kinds=given.kinds.split(",") if given.kinds else list(INNOCENT), receiver=given.receiver,
        seed=given.seed, patience=given.patience,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", choices=list(PLANS), help="a named plan; only --seed counts beside it")
    parser.add_argument("--report", type=Path, help="file for the number of findings of each kind, in JSON")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=240, help="how long blows are struck")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two blows")
    parser.add_argument(
        "--patience", type=float, default=180, help="seconds without an end that end the storm"
    )
    parser.add_argument("--poison", type=float, default=0.0, help="percent of the runs")
    parser.add_argument("--poisons", default="", help=f"which, of {','.join(ENDS)}; default all")
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--broker", choices=["valkey", "redis", "rabbitmq"], default="valkey")
    parser.add_argument("--blows", default="", help=f"which, of {','.join(BLOWS)}; none; default all")
    parser.add_argument("--without", default="", help="blows to leave out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--apis", type=int, default=2)
    parser.add_argument("--lease", type=float, default=10.0, help="seconds")
    parser.add_argument("--pooler", action="store_true", help="PgBouncer in transaction mode between")
    parser.add_argument(
        "--small-disk", action="store_true", help="on SQLite: a disk that can be filled (root)"
    )
    parser.add_argument("--kinds", default="", help=f"innocent ones, of {','.join(INNOCENT)}; default all")
    parser.add_argument("--receiver", default="/flaky/20", help="how the receiver of callbacks behaves")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> int:
    """Carry out the command line's storm; 1 when a promise was broken."""
    given = _parser().parse_args()
    if given.pooler and PgBouncer.program() is None:
        print("No PgBouncer: install Debian's pgbouncer, or leave out --pooler.", file=sys.stderr)
        return 2
    verdict = run(plan_of(given))
    print(f"seed {given.seed}, {given.plan or f'{given.database}, {given.broker}'}\n{verdict}")
    if given.report:
        given.report.write_text(json.dumps(verdict.kinds))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
