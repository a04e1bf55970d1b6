# Nothing is written outside this folder but the package caches of pip and uv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
UV := .venv/bin/uv

# uv must be able to write its cache: the user's own, or one in this folder where there is no such home.
export UV_CACHE_DIR ?= $(shell cache="$${XDG_CACHE_HOME:-$${HOME:-/nonexistent}/.cache}/uv"; \
	mkdir -p "$$cache" 2>/dev/null && test -w "$$cache" && echo "$$cache" || echo '$(CURDIR)/.cache/uv')
# Each task of a run is a process: without bytecode, each would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=
# It uses the machine's own Pythons and fetches none, and trusts whom the machine trusts.
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)

.PHONY: help
help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/installed ## Install the package (editable) and all it needs into .venv

.PHONY: demo
demo: install ## Migrate a small sample into a Milvus Lite file in build/demo, and search it
	@bash dev/demo.sh

.PHONY: ui
ui: install ## Start a local Airflow with the DAGs, a sample and a target; Ctrl-C ends all of it
	@.venv/bin/python dev/ui.py

.PHONY: lint
lint: install ## Check style, types, which way imports point, and links of the documentation
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	@$(MAKE) --no-print-directory docs

.PHONY: docs
docs: install ## Build the documentation's site into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

.PHONY: terminal-session
terminal-session: install ## Record the terminal session of the documentation
	.venv/bin/python dev/terminal_session.py

# Four at a time, for many tests wait. PYTEST_ADDOPTS adds to it.
PYTEST := .venv/bin/pytest --numprocesses 4 --dist loadgroup --no-loadscope-reorder

.PHONY: test
test: test-tools ## Run the tests of each step, against real targets and sources: those to run before a commit
	$(PYTEST) tests/unit tests/integration

.PHONY: test-system
test-system: test-tools ## Run whole migrations: by the command, airflow dags test, a scheduler, in a browser
	$(PYTEST) tests/system

.PHONY: test-unit
test-unit: install ## Run the unit tests, but for the slow ones
	.venv/bin/pytest --numprocesses 2 --dist worksteal -m "not long and not slow" tests/unit

.PHONY: test-fast
test-fast: install ## Check style, and run the unit tests that are not slow, in a minute or so
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint test-unit

.PHONY: test-e2e
test-e2e: test-tools .venv/e2e-installed ## Run a migration on many workers, each a host of its own; as root
	.venv/bin/pytest tests/e2e

.PHONY: test-long
test-long: test-tools ## Run the tests that take minutes or more
	.venv/bin/pytest -m long

.PHONY: bench
bench: test-tools ## Measure speed and memory (docs/performance.md), in build/bench.json too; takes long
	.venv/bin/python -m bench --json build/bench.json

.PHONY: bench-short
bench-short: test-tools ## Measure them with little data, in minutes: does it all still run?
	.venv/bin/python -m bench --short --json build/bench-short.json

.PHONY: bench-workers
bench-workers: test-tools .venv/e2e-installed ## Measure how more workers make loading faster (docs/scaling.md); as root
	.venv/bin/python -m bench --only workers

.PHONY: test-matrix
test-matrix: install system-packages ## Run unit tests and a migration on each Python, and with the oldest and newest versions; or in ENVIRONMENTS="3.12 oldest"
	@bash dev/test_matrix.sh

.PHONY: test-tools
test-tools: install .venv/mysql-installed .venv-milvus/installed ## Install what tests need besides: MariaDB, mysqlclient, Chromium, a Milvus 2.3.5 server

.PHONY: audit
audit: install ## Look the locked packages up among known vulnerabilities
	.venv/bin/python dev/audit.py

.PHONY: build
build: install ## Build the sdist, and from it the wheel, into dist; check what an index would show of them
	rm -rf dist
	.venv/bin/python -m build --no-isolation
	.venv/bin/twine check --strict dist/*

.PHONY: sbom
sbom: build ## List the wheel and what it requires, in the locked versions, as build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	$(UV) venv --quiet --clear --python .venv build/cyclonedx
	$(UV) pip install --quiet --python build/cyclonedx --require-hashes -r dev/requirements-sbom.lock
	$(UV) venv --quiet --clear --python .venv build/released
	for wheel in dist/*.whl; do \
		$(UV) pip install --quiet --python build/released --constraint requirements.lock "$$wheel[faiss,lite,s3]"; done
	sed "s/^dynamic = .*/version = \"$$(.venv/bin/hatchling version)\"/" pyproject.toml > build/pyproject.toml
	build/cyclonedx/bin/cyclonedx-py environment --pyproject build/pyproject.toml --mc-type library --output-reproducible \
		--output-file build/sbom.cdx.json build/released
	rm -r build/cyclonedx build/released build/pyproject.toml

.PHONY: check-constraints
check-constraints: AIRFLOW ?= 3.3.0
check-constraints: PYTHON_VERSION ?= 3.11
check-constraints: CONSTRAINTS ?= https://raw.githubusercontent.com/apache/airflow/constraints-$(AIRFLOW)/constraints-$(PYTHON_VERSION).txt
check-constraints: install ## Resolve what the package requires beside the constraints of AIRFLOW=3.3.0 for PYTHON_VERSION=3.11
	@mkdir -p build
	echo apache-airflow==$(AIRFLOW) | $(UV) pip compile --quiet --upgrade --python-version $(PYTHON_VERSION) \
		--constraint '$(CONSTRAINTS)' --extra faiss --extra lite --extra s3 --extra mysql pyproject.toml - \
		--output-file build/constrained.txt > /dev/null
	@grep -E '^(apache-airflow|pymilvus|h5py|numpy|protobuf|grpcio)==' build/constrained.txt

.PHONY: lock
lock: COMPILE = $(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
lock: .venv/uv-installed ## Write the locks, here and in dev/; UPGRADE=1 takes the newest versions
	$(COMPILE) pyproject.toml --extra faiss --extra lite --extra s3 --group dev --output-file requirements.lock
	echo uv | $(COMPILE) - --constraint requirements.lock --output-file dev/requirements-uv.lock
	echo setuptools | $(COMPILE) - pyproject.toml --extra mysql --constraint requirements.lock \
		$$(sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package \1/p' requirements.lock) \
		--output-file dev/requirements-mysql.lock
	$(COMPILE) pyproject.toml --group e2e --constraint requirements.lock \
		$$(sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package \1/p' requirements.lock) \
		--output-file dev/requirements-e2e.lock
	$(COMPILE) --group sbom --output-file dev/requirements-sbom.lock
	echo milvus==2.3.5 | $(COMPILE) - --output-file dev/requirements-milvus-server.lock

.env: ## Make up the passwords of docker-compose.yaml, once
	@umask 077; while read -r line; do \
		if [[ $$line =~ ^[A-Z_]+=$$ ]]; then line+=$$(head -c 32 /dev/urandom | base64 | tr '+/' '-_'); fi; \
		echo "$$line"; \
	done < .env.example > $@

.PHONY: clean
clean: ## Remove all that make made, .env apart
	rm -rf .cache .venv .venv-* build dist

.venv/uv-installed: dev/requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/lock-installed: requirements.lock .venv/uv-installed
	$(UV) pip sync --quiet --python .venv --require-hashes --compile-bytecode $<
	@touch $@

.venv/installed: pyproject.toml .venv/lock-installed
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: system-packages
system-packages: .venv/lock-installed
	@bash dev/system_packages.sh

.venv/mysql-installed: dev/requirements-mysql.lock .venv/lock-installed | system-packages
	$(UV) pip install --quiet --python .venv --require-hashes --no-build-isolation-package mysqlclient -r requirements.lock -r $<
	@touch $@

.venv/e2e-installed: dev/requirements-e2e.lock .venv/mysql-installed
	$(UV) pip install --quiet --python .venv --require-hashes --no-build-isolation-package mysqlclient \
		-r requirements.lock -r dev/requirements-mysql.lock -r $<
	@touch $@

.venv-milvus/installed: dev/requirements-milvus-server.lock .venv/uv-installed
	$(UV) venv --quiet --clear --python .venv .venv-milvus
	$(UV) pip install --quiet --python .venv-milvus --require-hashes -r $<
	.venv-milvus/bin/python -c 'import milvus; milvus._initialize_data_files("$(@D)/unpacked")'
	@touch $@
