# Everything a developer runs. Each target installs what it needs; `make help` lists them.

# local: a cluster of its own on this machine; kind: where Docker and kind are; current: the current kube context.
CLUSTER ?= auto
# How many simulated runs `make soak` plays.
SEEDS ?= 100000
# How many faults `make chaos` makes.
FAULTS  ?= 200
# How many kills `make chaos-local` does.
KILLS   ?= 30
# How much `make bench` measures: short shows in minutes that all of it works, usual takes an hour or more, long several.
LENGTH  ?= usual

# The one that the images have, where it is there; built with profile-guided optimisation, it is also the faster one.
SYSTEM_PYTHON := /usr/bin/python3.11
VENV    := .venv
TRY     := .try
PYTHON  := $(VENV)/bin/python
READY   := $(VENV)/.ready

# More than there are processors: most tests wait for pods most of the time.
WORKERS ?= 4
SPREAD  := --numprocesses $(WORKERS)

# The Pythons of the environments with a real dbt; all are built here where they are not there.
DBTS = DBT_OPERATOR_TEST_DBT_PYTHON="$$($(PYTHON) -m dev.dbt_venv)" \
	DBT_OPERATOR_TEST_DBT_2_PYTHON="$$($(PYTHON) -m dev.dbt_venv dbt-2)" \
	DBT_OPERATOR_TEST_BIGQUERY_PYTHON="$$($(PYTHON) -m dev.dbt_venv dbt-bigquery)"

# Where it is set, every process would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help try venv cluster cluster-down images load test-images install uninstall demo test test-versions test-adapters test-bigquery check unit simulation soak contract e2e chaos chaos-local bench bench-peers format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/dev.txt pyproject.toml
	@echo "Installing the development environment into $(VENV) (usually half a minute)"
	@$(SYSTEM_PYTHON) -m venv --clear $(VENV) 2>/dev/null || python3 -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(TRY)/.ready: requirements/try.txt pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed."; exit 1; }
	@echo "Installing dbt, its adapter for DuckDB and dbt-operator into $(TRY) (half a minute)"
	@python3 -m venv --clear $(TRY)
	@$(TRY)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/try.txt
	@$(TRY)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

try: $(TRY)/.ready ## See it work without a cluster, as any user: a green run, then one with a broken model
	@$(TRY)/bin/python -m dev.try_it

venv: $(READY) ## Install the development environment into .venv

cluster: $(READY) ## Bring a cluster up (CLUSTER=local|kind|current)
	@$(PYTHON) -m dev.cluster up --kind $(CLUSTER)

cluster-down: $(READY) ## Take the local cluster down; nothing of it stays
	@$(PYTHON) -m dev.cluster down

images: cluster ## Build the images and hand them to the cluster
	@$(PYTHON) -m dev.images build dbt-operator jaffle-shop

load: cluster ## Hand an image of your own to the cluster (IMAGE=shop:1; CONTEXT=folder: build it there first)
	@$(PYTHON) -m dev.load $(IMAGE) $(if $(CONTEXT),--context $(CONTEXT))

test-images: cluster ## Build what the tests need besides
	@$(PYTHON) -m dev.images build

install: images ## Install the chart into the cluster
	@$(PYTHON) -m dev.install

uninstall: $(READY) ## Remove the chart from the cluster
	@$(PYTHON) -m dev.install --uninstall

demo: install ## See it work: a green run, then one with a broken model
	@$(PYTHON) -m dev.demo

test: $(READY) ## Format, lint, types, import contracts, unit, contract and e2e tests
	@# While the cluster starts. Collected once, as every worker would compile the tests anew for itself.
	@($(MAKE) --no-print-directory check && $(PYTHON) -m pytest -qq --collect-only >/dev/null) & checks=$$!; \
		$(MAKE) --no-print-directory install test-images && wait $$checks
	@$(DBTS) $(PYTHON) -m pytest -q $(SPREAD)

test-versions: $(READY) ## The runner's tests with older dbts and other Pythons, as far as this machine has them
	@$(PYTHON) -m dev.versions -- $(SPREAD)

test-adapters: $(READY) ## Connections with every adapter that can be installed (1.2 GB)
	@DBT_OPERATOR_TEST_ADAPTERS_PYTHON="$$($(PYTHON) -m dev.dbt_venv adapters)" $(PYTHON) -m pytest -q tests/adapters

test-bigquery: $(READY) ## What dbt does in BigQuery, also in an emulator that executes the SQL (half a gigabyte)
	@DBT_OPERATOR_TEST_BQEMULATOR_PYTHON="$$($(PYTHON) -m dev.dbt_venv bqemulator)" $(DBTS) $(PYTHON) -m pytest -q tests/bigquery

check: $(READY) ## Format, lint, types and import contracts only
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

unit: $(READY) ## Unit tests, and whole runs without a cluster
	@$(DBTS) $(PYTHON) -m pytest -q $(SPREAD) tests/unit tests/local tests/adapters tests/bigquery

simulation: $(READY) ## Three thousand runs of the operator in a simulated cluster
	@$(PYTHON) -m pytest -q $(SPREAD) tests/simulation

soak: $(READY) ## Many simulated runs, e.g. SEEDS=100000; ends with the story of the first that goes wrong
	@$(PYTHON) -m tests.simulation --seeds 0:$(SEEDS)

contract: install test-images ## Contract tests only
	@$(PYTHON) -m pytest -q $(SPREAD) tests/contract

e2e: install test-images ## End-to-end tests only
	@$(PYTHON) -m pytest -q $(SPREAD) tests/e2e

chaos: install test-images ## Disturb runs with real faults on the local cluster (FAULTS=200, SEED=a number)
	@$(PYTHON) -m dev.chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

chaos-local: $(READY) ## Kill a run without a cluster at any moment, on a Postgres of its own (KILLS=30, SEED=a number, MODE=PerNode)
	@$(PYTHON) -m dev.local_chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE))

bench-peers: $(READY) ## The same project by dbt, dbt-operator, Airflow with Cosmos, Dagster and Prefect (PEERS=dbt,local: only these; NODES=100)
	@$(PYTHON) -m benchmarks.peers $(if $(PEERS),--peers $(PEERS)) $(if $(NODES),--nodes $(NODES))
	@$(PYTHON) -m benchmarks.report

bench: install ## Measure all of benchmarks/ and write its tables and plots (LENGTH=short|usual|long, ONLY=retry,start)
	@$(PYTHON) -m dev.images build postgres postgres-example chaos
	@$(PYTHON) -m benchmarks --length $(LENGTH) $(if $(ONLY),--only $(ONLY))

format: $(READY) ## Format the code and apply safe fixes
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

lock: $(READY) ## Lock the dependencies again, with hashes (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --extra operator pyproject.toml -o requirements/operator.txt
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --extra operator --extra dev -c requirements/operator.txt pyproject.toml -o requirements/dev.txt
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 pyproject.toml requirements/try.in -o requirements/try.txt
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --override requirements/adapters-overrides.in --no-emit-package dbt-core-experimental-parser requirements/adapters.in -o requirements/adapters.txt
	@for dbt in 1.8 1.10; do uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.9 requirements/dbt-$$dbt.in -o requirements/dbt-$$dbt.txt; done
	@echo "dbt-core-experimental-parser ; sys_platform == 'never'" | uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --override - --no-emit-package dbt-core-experimental-parser requirements/dbt-1.12.in -o requirements/dbt-1.12.txt
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --no-emit-package google-cloud-aiplatform --no-emit-package google-genai --no-emit-package google-cloud-resource-manager requirements/dbt-bigquery.in -o requirements/dbt-bigquery.txt
	@for version in 1.8 1.9 1.10 1.11; do uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 requirements/dbt-bigquery-$$version.in -o requirements/dbt-bigquery-$$version.txt; done
	@for name in dagster bqemulator; do uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 requirements/$$name.in -o requirements/$$name.txt; done
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --prerelease allow requirements/dbt-2.in -o requirements/dbt-2.txt
	@# Airflow does not work with whatever is newest, so with what there was when these two were tested together.
	@uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --exclude-newer 2026-08-20 --exclude-newer-package dbt-core=2026-11-28 requirements/peer-airflow.in -o requirements/peer-airflow.txt
	@for peer in dagster prefect; do uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 requirements/peer-$$peer.in -o requirements/peer-$$peer.txt; done
	@for file in images/tools/requirements tests/wheelhouse/dbt-1.10 tests/wheelhouse/dbt-1.11; do uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 $$file.in -o $$file.txt; done

clean: ## Remove the development environment and caches of the checkout
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist controller/*.egg-info
