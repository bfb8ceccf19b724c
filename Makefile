# Two commands for a newcomer: `make demo` and `make test`. Everything they need they set up themselves.
#
# Python packages come from requirements.lock (exact versions and hashes) into .venv, with uv where it is installed,
# else with venv and pip. Debian packages are installed when we are root; otherwise the one command is printed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# What the tests drive: umockdev plays sysfs, udev's own udevadm judges our rules, prometheus and promtool judge the metrics, chromium the page.
TEST_PACKAGES := umockdev udev prometheus chromium

.PHONY: help
help: ## say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

.PHONY: setup
setup: $(VENV)/.ready ## make .venv with the station in it (.venv/bin/station)

$(VENV)/.ready: requirements.lock pyproject.toml hatch_build.py station/bench/micropython/package-lock.json
	@./deploy/make-venv "$(PYTHON)" "$(VENV)"
	touch $@

.PHONY: demo
demo: setup ## eight virtual boards through the real daemon; prints where the page is and the table of jobs
	@$(BIN)/station demo --once $(DEMO)

.PHONY: test-packages
test-packages:
	@./deploy/need-packages $(TEST_PACKAGES)

.PHONY: test
test: setup test-packages check ## all checks: format, lint, types, import contracts, tests
	$(BIN)/pytest

.PHONY: bench
bench: setup ## measure the station on virtual boards and print the table (eleven minutes; BENCH="hands batches": one)
	@$(BIN)/python -m tests.benchmarks.bench $(BENCH)

.PHONY: check
check: setup ## format, lint, types and import contracts only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lock
lock: ## renew requirements.lock (needs uv)
	uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --upgrade -o requirements.lock

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
