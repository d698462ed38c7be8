"""What deleting this worker's pod costs, noted at the pod: Kubernetes takes the cheapest away first.

ReplicaSets look at the annotation when they lose replicas:
https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import structlog

from runyard_common.values import addresses
from runyard_common.values.errors import ConfigurationError

logger = structlog.get_logger("runyard.pod")

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
#: Where Kubernetes puts what a pod shows the API server.
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: The least time between two notes, in seconds. Kubernetes asks for few.
EVERY: Final = 10.0
TIMEOUT: Final = 5.0  # seconds of one call


def deletion_cost(in_use: int, paused: bool) -> int:
    """Return the cost for a worker with so many runs: 0 while it is idle, −1 where it is drained by an operator, too.

    With runs it is the power of two at or below their number: it changes when the work has doubled or halved, not
    with each run.
    """
    if not in_use:
        return -1 if paused else 0
    return 1 << (in_use.bit_length() - 1)


class NotNoted(Exception):
    """The API server refused, or could not be reached."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod that this process runs in, and the API server that knows it."""

    api: str  # the API server's address
    name: str
    namespace: str
    account: Path

    @classmethod
    def of_environment(cls, account: Path = ACCOUNT) -> Pod:
        """Find it out. ConfigurationError where this is no pod, or one without a token."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host or not (account / "token").exists():
            raise ConfigurationError(
                "RUNYARD_POD_DELETION_COST is for workers in a pod of Kubernetes whose service account has a token "
                "there (automountServiceAccountToken: true). Unset it elsewhere."
            )
        name = os.environ.get("POD_NAME") or socket.gethostname()
        namespace = (account / "namespace").read_text().strip()
        return cls(f"https://{addresses.bracketed(host)}:{port}", name, namespace, account)

    async def note(self, cost: int) -> None:
        """Write the cost at the pod. `NotNoted` has the reason."""
        try:
            # Read each time: Kubernetes renews the token within the hour, and the certificates now and then.
            token = (self.account / "token").read_text().strip()
            tls = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
            async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=TIMEOUT) as client:
                answer = await client.patch(
                    f"{self.api}/api/v1/namespaces/{self.namespace}/pods/{self.name}",
                    json={"metadata": {"annotations": {ANNOTATION: str(cost)}}},
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Content-Type": "application/merge-patch+json",
                        "Accept": "application/json",
                    },
                )
        except (httpx2.HTTPError, OSError) as error:
            raise NotNoted(f"{type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise NotNoted(f"{answer.status_code} {_reason(answer)}")


def _reason(answer: httpx2.Response) -> str:
    try:
        status = answer.json()
    except ValueError:
        return answer.reason_phrase
    return str(status.get("message", ""))[:300] if isinstance(status, dict) else answer.reason_phrase


async def keep_deletion_cost(pod: Pod, cost: Callable[[], int], every: float = EVERY) -> None:
    """Note the cost whenever it is another than the one at the pod, at most once in `every` seconds.

    It is a hint: where it cannot be written, the worker works on, the log shows why, once, and it is tried again.
    """
    noted, fault = None, ""
    while True:
        if (now := cost()) != noted:
            try:
                await pod.note(now)
            except NotNoted as error:
                if fault != (fault := str(error)):
                    logger.warning("The cost of deleting this pod is not noted", action="pod", error=fault)
            else:
                if fault:
                    logger.info("The cost of deleting this pod is noted again", action="pod")
                noted, fault = now, ""
        await asyncio.sleep(every)
