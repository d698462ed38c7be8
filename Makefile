# Everything is done by one word; `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
# Tests run side by side, a module at a time; JOBS=0 runs them one after another.
# A process of the tests that ends ends the run: xdist 3.8 waits for ever for the one it starts in its place.
JOBS := 4
# Reading the tests takes twice as long where Python may not keep what it compiled of them.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest
export PYTHON TEST_WITHOUT TEST_POSTGRES_URL TEST_REDIS_URL TEST_VALKEY_URL TEST_RABBITMQ_URL TEST_MARIADB_URL

.PHONY: help
help: ## List what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: run
run: ## Start everything and watch a sample run complete (ARGS="--workers 2"); Ctrl-C stops
	@tools/bootstrap.sh run
	@exec $(BIN)/runyard up --demo $(ARGS)

.PHONY: test
test: setup ## Run all tests, with real PostgreSQL, Redis, Valkey and RabbitMQ (ARGS="-k name", JOBS=0)
	@tools/test-servers.sh
	@$(BIN)/python -m compileall -q api common launch runyard runyard_pytest scheduler tests workers
	@$(PYTEST) -n $(JOBS) --dist loadscope --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

.PHONY: test-fast
test-fast: setup ## Run the unit and property tests that start no process, in under a minute (ARGS="-k name", JOBS=0)
	@$(PYTEST) tests/unit tests/property -q -n $(JOBS) --dist loadscope -m "not processes" --hypothesis-profile=fast $(ARGS)

.PHONY: check
check: setup ## Check format, lint, types, import contracts, generated documents and clients
	@echo "format" && $(BIN)/ruff format --quiet --check . || { echo "run: make fmt"; exit 1; }
	@echo "lint" && $(BIN)/ruff check --quiet .
	@echo "types" && $(BIN)/mypy
	@echo "imports" && $(BIN)/lint-imports
	@echo "clients" && $(BIN)/python tools/sync_client.py --check && $(BIN)/pytest -q -m conformance tests/contract/test_openapi_clients.py
	@echo "documents" && $(BIN)/python -m runyard_api.documents.openapi --check && $(BIN)/pytest -q tests/unit -m documents

.PHONY: conformance
conformance: setup ## Read the OpenAPI document with the linters and generators of others (needs Node.js)
	@$(BIN)/pytest -q -m conformance tests/contract

.PHONY: fmt
fmt: setup ## Write the client that waits from the asynchronous one, format the code, correct what lint can correct
	@$(BIN)/python tools/sync_client.py
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: setup ## Measure, as ratios to named peers in the same run (ONLY=peers takes one)
	@tools/test-servers.sh
	@for file in tests/benchmarks/bench_$(or $(ONLY),*).py; do \
		name=$$(basename "$$file" .py); echo "== $$name"; $(BIN)/python -m "tests.benchmarks.$$name" $(ARGS); \
	done

.PHONY: bench-smoke
bench-smoke: setup ## Check in a minute that Runyard and its peers can be measured (fails on no time, only when broken)
	@$(BIN)/python -m tests.benchmarks.bench_peers --smoke $(ARGS)

CHAOS := $(BIN)/python -m tests.chaos

.PHONY: chaos
chaos: setup ## Strike real processes and servers at random and check that every promise holds
	@tools/test-servers.sh
	@for on in "postgres valkey" "postgres rabbitmq" "sqlite valkey --small-disk"; do \
		set -- $$on; echo "== $$on"; $(CHAOS).storm --database $$1 --broker $$2 $${3:-} $(ARGS); \
	done
	@$(CHAOS).schedulers
	@$(BIN)/pytest -m chaos

.PHONY: chaos-poison
chaos-poison: setup ## 2,000 mixed runs, one in twenty poison that exits, blocks or kills its process
	@tools/test-servers.sh
	@for on in "postgres redis" "postgres rabbitmq" "sqlite valkey"; do \
		set -- $$on; echo "== $$on"; \
		$(CHAOS).storm --database $$1 --broker $$2 --poison 5 --blows none --seconds 900 $(ARGS); \
	done

.PHONY: chaos-mutants
chaos-mutants: setup ## Take out one protection at a time and check that a storm reports it (ONLY=fence takes one)
	@tools/test-servers.sh
	@$(CHAOS).mutants $(ONLY)

.PHONY: soak
soak: setup ## Half an hour of work with a blow now and then, judged like chaos
	@tools/test-servers.sh
	@$(CHAOS).storm --runs 20000 --seconds 1800 --every 30 $(ARGS)

.PHONY: rolling
rolling: setup ## Replace each process of the previous release by a new one under load, then 1 -> 4 -> 1 workers (ARGS="--database sqlite")
	@tools/test-servers.sh
	@$(BIN)/python -m tests.rolling $(ARGS)

.PHONY: wheels
wheels: setup ## Build the two wheels of a release, runyard and runyard-server, into dist
	@rm -rf build server/build
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./server
	@ls dist/*.whl

# Tools of a release, in environments of their own.
SBOM_TOOL := cyclonedx-bom==7.5.0
AUDIT_TOOL := pip-audit==2.10.1

.PHONY: sbom
sbom: setup ## Write the bill of materials of a release (CycloneDX) to dist/runyard.cdx.json
	@mkdir -p dist
	@$(BIN)/uv tool run --quiet --from $(SBOM_TOOL) cyclonedx-py requirements requirements.lock \
		--pyproject pyproject.toml --mc-type application --output-reproducible --of JSON -o dist/runyard.cdx.json
	@echo "dist/runyard.cdx.json"

.PHONY: audit
audit: setup ## Look the pinned dependencies up in the advisory database (needs the internet)
	@$(BIN)/uv tool run --quiet --from $(AUDIT_TOOL) pip-audit --strict --require-hashes --disable-pip -r requirements.lock

# Sphinx, in an environment of its own.
DOCS_TOOLS := --with sphinx==9.0.4 --with myst-parser==5.2.0 --with furo==2025.12.19

.PHONY: image-check
image-check: ## Build and start the image with docker or podman, or carry its steps out in a clean root of Debian (root, minutes)
	@$(or $(PYTHON),python3) tools/image_engine.py $(FOLDER)

.PHONY: docs
docs: setup ## Build the documentation as a site, which opens from a disk, in dist/docs
	@$(BIN)/uv run --quiet --no-project $(DOCS_TOOLS) python tools/docs/build.py $(or $(OUT),dist/docs)

.PHONY: screenshots
screenshots: setup ## Make the console's pictures in docs/images/console (needs Chromium), then look at them
	@$(BIN)/python -m tests.console_pictures

.PHONY: clean
clean: ## Remove the virtualenv and caches (never .runyard, which holds your data)
	@rm -rf .venv .venv.lock .test .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup
setup:
	@tools/bootstrap.sh test
