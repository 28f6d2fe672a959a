# `make help` lists what there is. Everything runs inside .venv, which the first target that needs it makes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH_VENV ?= .venv-bench
BENCH_BIN := $(BENCH_VENV)/bin
T ?= tests
N ?= 20000
FAULTS ?= 500
TENANTS ?= 1000
REAL ?= 50
JOBS ?= 2
CANDIDATES ?= fast
export PYTHONPATH := .
# Before numpy is imported anywhere: one thread per process (parallelism is processes).
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

.PHONY: help setup demo test unit contract fuzz big chaos overhead memory global bench sure fix lint types imports lock wheel clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

define make_venv
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON); install Python 3.11 or newer, or give PYTHON=…"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $$($(PYTHON) --version) is too old; tenantcast needs Python 3.11 or newer (PYTHON=python3.12 make …)"; exit 2; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) \
	  || { echo "make: $(PYTHON) has no venv module; install python3-venv"; exit 2; }
endef

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	$(call make_venv,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(VENV)/.installed  ## Install everything into .venv, pinned by hash

demo: setup  ## A dozen shops: generate, forecast, print a table, write a page to look at
	@$(BIN)/tenantcast demo

test: setup  ## Every test, against real servers that the run starts itself (T=path::name for one)
	@$(BIN)/python -m pytest $(T)

unit: setup  ## The tests that need no server
	@$(BIN)/python -m pytest tests/unit

contract: setup  ## One suite over all candidates, one over both gateways
	@$(BIN)/python -m pytest tests/contract

fuzz: setup  ## Hostile series and settings, N=20000 of them
	@TENANTCAST_FUZZ=$(N) $(BIN)/python -m pytest -m fuzz tests

big: setup  ## One tenant with 10 million rows within 300 MB
	@$(BIN)/python -m pytest -m big tests

chaos: setup  ## A storm: FAULTS=500 over TENANTS=1000, REAL=50 of them with every candidate (SEED=… replays one)
	@$(BIN)/python -m tests.chaos --faults $(FAULTS) --tenants $(TENANTS) --real $(REAL) $(if $(SEED),--seed $(SEED))

overhead: setup  ## Ledger, queue and database per tenant beside pure computing, TENANTS=1000 on two workers
	@$(BIN)/python -m benchmarks.overhead --tenants $(TENANTS)

memory: TENANTS = 2000
memory: setup  ## How much a worker grows per tenant over TENANTS=2000, and the size of artefacts (CANDIDATES=fast)
	@$(BIN)/python -m benchmarks.memory --tenants $(TENANTS) --candidates $(CANDIDATES)

global: TENANTS = 2000
global: setup  ## What training the global model costs in a database of TENANTS=2000
	@$(BIN)/python -m benchmarks.global_model --tenants $(TENANTS)

$(BENCH_VENV)/.installed: requirements-bench.lock
	$(call make_venv,$(BENCH_VENV))
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: $(BENCH_VENV)/.installed  ## Beside its rivals on real series (SAMPLE=20: ten minutes; METHODS=a,b; ABLATION=1; FRESH=1; JSON=1)
	@$(BENCH_BIN)/python -m benchmarks.bench --jobs $(JOBS) $(if $(SAMPLE),--sample $(SAMPLE)) \
	  $(if $(METHODS),--methods $(METHODS)) $(if $(ABLATION),--ablation) $(if $(FRESH),--fresh) $(if $(JSON),--json)

sure: lint types imports  ## Every check that is not a test

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup  ## mypy, strict on app/
	@$(BIN)/mypy

imports: setup  ## Who may import whom
	@$(BIN)/lint-imports

fix: setup  ## Format, and mend what ruff can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: setup  ## Pin the newest releases that fit, by hash (needs uv)
	uv pip compile pyproject.toml --universal --generate-hashes --upgrade -q -o requirements.lock
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --upgrade -q -o requirements-dev.lock
	uv pip compile pyproject.toml --group bench --universal --generate-hashes --upgrade -q -o requirements-bench.lock

wheel: setup  ## Build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation

clean:  ## Remove what was built (.venv and .tenantcast stay)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
