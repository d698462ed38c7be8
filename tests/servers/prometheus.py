"""Debian's Prometheus, scraping the processes whose targets a folder has, with the alerts of deploy/prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing

DEPLOYED = Path(__file__).parents[2] / "deploy/prometheus"


class Prometheus:
    """Use as a context manager. It scrapes every second, and keeps little."""

    def __init__(self, folder: Path, targets: Path) -> None:
        self._folder, self._targets = folder, targets
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOYED / "alerts.yml")]
        (job,) = config["scrape_configs"]
        job["file_sd_configs"] = [{"files": [f"{self._targets}/*.json"], "refresh_interval": "1s"}]
        file = self._folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        command = [
            program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}", "--enable-feature=exemplar-storage",
            "--storage.tsdb.retention.size=32MB", "--storage.tsdb.min-block-duration=1h",
        ]  # fmt: skip
        self._process = process.spawn(command, log=self._folder / "prometheus.log", cwd=self._folder)
        deadline = time.monotonic() + 60
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "prometheus.log").read_text()
                raise ServerMissing(f"Prometheus did not start:\n{log[-3000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            process.end(self._process, grace=10)
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of an instant query now; `urllib.error.HTTPError` for one that is wrong."""
        found: list[dict[str, Any]] = self.get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return found

    def components(self) -> set[str]:
        """Which kinds of processes answer scrapes."""
        return {sample["metric"]["component"] for sample in self.ask('up{job="runyard"} == 1')}

    def get(self, path: str) -> dict[str, Any]:
        """The data of an answer of its API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=30) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except OSError:
            return False


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is."""
    found = shutil.which(name)
    if found is None:
        raise ServerMissing(
            f"No {name}: run `make test` as root, which installs it, or install prometheus, or leave it out with "
            "TEST_WITHOUT=prometheus."
        )
    return found
