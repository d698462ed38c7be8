#!/usr/bin/env bash
# Writes requirements.lock (what `make run` and the image have) and requirements-dev.lock (the tests' too) from
# pyproject.toml. What is locked stays as it is; `tools/lock.sh --upgrade` takes the newest versions that fit.
# Frameworks of adapters are in the second alone: an author brings their own.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=()
for extra in server local postgres mysql s3 openai anthropic google mcp otel files; do extras+=(--extra "$extra"); done
compile() {
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-package runyard --no-emit-package runyard-server \
    "${extras[@]}" pyproject.toml "$@"
}
compile --group dev -o requirements-dev.lock "$@"
compile -c requirements-dev.lock -o requirements.lock "$@"
