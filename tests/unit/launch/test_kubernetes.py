"""deploy/kubernetes, rendered by kubectl, checked with the schemas of Kubernetes and of KEDA and with our own rules.

tests/kubernetes has KEDA's own definitions of its objects (config/crd, schema/generated), with its licence.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from runyard_api.native.ops import QueueView
from runyard_common.settings import PREFIX, Settings
from tests.stack import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
KEDA = ROOT / "tests" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
#: The oldest version that ValidatingAdmissionPolicy is stable in is 1.30; the newest is what the checker has.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
PROCESSES = ("api", "worker", "scheduler")

pytestmark = pytest.mark.processes


@functools.cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """What `kubectl apply -k` sends."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER / "overlays" / overlay],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of what it will not read one day"
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in rendered(overlay) if one["kind"] == kind]


def templates(overlay: str) -> dict[str, dict[str, Any]]:
    """The pods' templates by component."""
    found = [*of_kind(overlay, "Deployment"), *of_kind(overlay, "Job")]
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"] for one in found
    }


def settings(overlay: str) -> dict[str, str]:
    (config,) = of_kind(overlay, "ConfigMap")
    found: dict[str, str] = config["data"]
    return found


def closed(schema: Any) -> Any:
    """A schema that refuses fields it does not have, as an API server does that is asked to be strict."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    is_object = made.get("type") == "object" and isinstance(made.get("properties"), dict)
    if is_object and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """The checker reads the schemas of a version, of megabytes, for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kubernetes_validate.utils,
            "schema_contents",
            functools.cache(kubernetes_validate.utils.schema_contents),
        )
        yield


def check_keda(manifest: dict[str, Any]) -> None:
    file = KEDA / f"keda.sh_{manifest['kind'].lower()}s.yaml"
    (version,) = yaml.safe_load(file.read_text())["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {}
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(manifest)
    ]
    assert errors == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_object_is_one_that_kubernetes_takes(overlay: str) -> None:
    for manifest in rendered(overlay):
        if manifest["apiVersion"].startswith("keda.sh/"):
            check_keda(manifest)
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_misspelt_is_found() -> None:
    (deployment,) = [
        one for one in of_kind("small", "Deployment") if one["metadata"]["name"] == "runyard-api"
    ]
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 10
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, VERSIONS[1], strict=True)
    (scaled,) = of_kind("production", "ScaledObject")
    with pytest.raises(AssertionError, match="minReplicas"):
        check_keda({**scaled, "spec": {**scaled["spec"], "minReplicas": 1}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_processes_know_every_setting_and_no_other(overlay: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = settings(overlay)
    example = re.findall(r"^(\w+)=", (FOLDER / "secret.env.example").read_text(), re.MULTILINE)
    assert {name for name in (*given, *example) if name.startswith(PREFIX)} <= known
    assert not given.keys() & set(example)
    Settings(**{name.removeprefix(PREFIX).lower(): text for name, text in given.items()})
    assert not of_kind(overlay, "Secret"), "passwords are in no repository"
    for template in templates(overlay).values():
        (container,) = template["spec"]["containers"]
        assert {name for one in container.get("env", []) if (name := one["name"]).startswith(PREFIX)} <= known
        secret = container["envFrom"][1]["secretRef"]["name"]
        assert (secret, container["envFrom"][0]["configMapRef"]["name"][:7]) == ("runyard", "runyard")
        assert template["spec"]["enableServiceLinks"] is False, (
            "a Service runyard-api gives pods RUNYARD_API_PORT, an unknown setting that ends every process"
        )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_has_a_right_more_than_it_needs(overlay: str) -> None:
    found = templates(overlay)
    assert found.keys() == {*PROCESSES, "migrate"}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    for name, template in found.items():
        pod = template["spec"]
        (container,) = pod["containers"]
        assert container["args"] == [name]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {pod['securityContext']['runAsUser']} " in dockerfile
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        noting = overlay == "production" and name == "worker"
        assert pod["automountServiceAccountToken"] is noting
        assert "memory" in container["resources"]["limits"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert written == {"/tmp", "/var/lib/runyard"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_the_time_that_its_process_takes_to_stop(overlay: str) -> None:
    found, given = templates(overlay), settings(overlay)
    grace = {name: template["spec"].get("terminationGracePeriodSeconds") for name, template in found.items()}
    assert grace["worker"] >= float(given["RUNYARD_DRAIN_SECONDS"]) + 10
    assert grace["api"] >= float(given["RUNYARD_LAME_DUCK_SECONDS"]) + 10
    assert grace["scheduler"] >= 10
    probe = found["api"]["spec"]["containers"][0]["readinessProbe"]
    seen_after = probe["periodSeconds"] * probe.get("failureThreshold", 3)
    assert float(given["RUNYARD_LAME_DUCK_SECONDS"]) > seen_after, "the Service has dropped it by then"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_selects_pods_selects_those_that_there_are(overlay: str) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in templates(overlay).items()}

    def selected(wanted: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if wanted.items() <= has.items()}

    for name in PROCESSES:
        (budget,) = [
            one
            for one in of_kind(overlay, "PodDisruptionBudget")
            if one["metadata"]["name"] == f"runyard-{name}"
        ]
        assert selected(budget["spec"]["selector"]["matchLabels"]) == {name}
        spread = templates(overlay)[name]["spec"]["topologySpreadConstraints"]
        assert [selected(one["labelSelector"]["matchLabels"]) for one in spread] == [{name}, {name}]
    (service,) = of_kind(overlay, "Service")
    assert selected(service["spec"]["selector"]) == {"api"}
    everything = {"key": "app.kubernetes.io/component", "operator": "In", "values": [*PROCESSES, "migrate"]}
    (nothing,) = [
        one for one in of_kind(overlay, "NetworkPolicy") if one["metadata"]["name"] == "runyard-nothing"
    ]
    assert nothing["spec"]["podSelector"]["matchExpressions"] == [everything]
    assert not {"ingress", "egress"} & nothing["spec"].keys()


def test_workers_are_scaled_by_a_number_that_the_api_gives() -> None:
    (scaled,) = of_kind("production", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (service,) = of_kind("production", "Service")
    name, space, port = (
        service["metadata"]["name"], service["metadata"]["namespace"], service["spec"]["ports"][0]["port"],
    )  # fmt: skip
    assert trigger["metadata"]["url"] == f"http://{name}.{space}:{port}/api/v1/ops/queue"
    assert QueueView.model_fields[trigger["metadata"]["valueLocation"]].annotation is int
    known = json.loads((KEDA / "scalers-schema.json").read_text())["scalers"][0]
    assert trigger["type"] == known["type"]
    parameters = {one["name"]: one.get("optional", "default" in one) for one in known["parameters"]}
    assert trigger["metadata"].keys() - {"authMode"} <= parameters.keys()
    assert {name for name, optional in parameters.items() if not optional} <= trigger["metadata"].keys()
    (authentication,) = of_kind("production", "TriggerAuthentication")
    assert authentication["metadata"]["name"] == trigger["authenticationRef"]["name"]
    (worker,) = [
        one for one in of_kind("production", "Deployment") if one["metadata"]["name"] == "runyard-worker"
    ]
    assert scaled["spec"]["scaleTargetRef"] == {"name": worker["metadata"]["name"]}
    assert "replicas" not in worker["spec"], "an apply would set KEDA's number back"
