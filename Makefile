# Everything a newcomer needs: `make demo` shows the product, `make test` proves it.
# Each target sets up what it needs; second runs start at once.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
SOAK_PARTS := cuts kills network starts chaos rest

.DEFAULT_GOAL := help
.PHONY: help setup programs demo test sim check format bench soak image-test lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## virtual environment with the locked dependencies

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "python3 is older than 3.11: use Debian 12 or newer, or 'make PYTHON=/path/to/python3.11 ...'" >&2; exit 69; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ./.ci/packages required python3-venv
	@echo "Setting up .venv (once): locked dependencies, about a minute ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

programs:
	@./.ci/packages wanted $$(grep -vE '^\s*(#|$$)' requirements/debian-test.txt | cut -d' ' -f1)

demo: $(READY)  ## a small community on this machine, with its account at the end (SERVE=1 keeps it running)
	@$(BIN)/nplus-hil demo $(if $(filter-out 0,$(SERVE)),--serve) $(DEMO)

test: $(READY) programs  ## every test that fits ten minutes
ifdef TESTS
	@$(PYTEST) -m "not image and not soak" $(TESTS)
else
	@# The simulated worlds fill what the real programs leave of the processor while they wait.
	@worlds=$$(mktemp); trap 'rm -f $$worlds' EXIT; \
	  nice -n 10 $(PYTEST) tests/world >$$worlds 2>&1 & simulated=$$!; \
	  $(PYTEST) -n 2 --dist loadgroup -m "not image and not soak" --ignore=tests/world; rest=$$?; \
	  wait $$simulated; simulated=$$?; cat $$worlds; exit $$(( rest ? rest : simulated ))
endif

sim: $(READY)  ## live simulated worlds (WORLDS=500), or one of them again with a trace (SEED=n)
	@$(BIN)/python -m tests.world $(if $(SEED),--seed $(SEED),--worlds $(or $(WORLDS),500))

check: $(READY)  ## format, lint, types, import floors
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | grep -E "KEPT|BROKEN|->|Contracts:"
	@echo "check: all clean"

format: $(READY)  ## write the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## measure beside goals and peers, one table (BENCH=catchup: one part; docs/performance.md)
	@$(BIN)/python -m tests.benchmarks $(BENCH)

soak: $(READY) programs  ## longer proofs on the real programs (PARTS="cuts kills network starts chaos rest")
	@for part in $(or $(PARTS),$(SOAK_PARTS)); do $(BIN)/python -m tests.proofs soak $$part || exit; done

image-test: $(READY)  ## the pin factory on a real gpiochip in an emulated arm64 machine (a few minutes)
	@./.ci/packages required $$(grep -vE '^\s*(#|$$)' requirements/debian-image.txt | cut -d' ' -f1)
	@$(PYTEST) -m image tests/image
	@$(BIN)/python -m tests.proofs record image-test

lock:  ## resolve the requirements anew (needs uv on the path)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  pyproject.toml --extra gateway --extra station --extra hil --group dev --upgrade -o requirements/dev.txt
	for part in gateway station; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    pyproject.toml --extra $$part --constraint requirements/dev.txt -o requirements/$$part.txt; done

clean:  ## remove what set-up and tests made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
