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
# lintian judges the package, systemd-analyze the units.
TEST_PACKAGES := umockdev udev prometheus chromium lintian systemd
# What building the package needs beside Python: Debian's own Python and its venv, and dpkg-deb with xz.
DEB_PACKAGES := python3 python3-venv dpkg-dev xz-utils

.PHONY: help
help: ## say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

.PHONY: setup
setup: $(VENV)/.ready ## make .venv with the station in it (.venv/bin/station)

$(VENV)/.ready: requirements.lock pyproject.toml hatch_build.py station/bench/micropython/package-lock.json
	@./deploy/make-venv "$(PYTHON)" "$(VENV)"
	touch $@

.PHONY: demo
demo: setup ## eight virtual boards through the real daemon, then the table of jobs (RECIPE=deploy/recipes/blink: a recipe)
	@$(BIN)/station demo --once $(if $(RECIPE),--recipe "$(RECIPE)") $(DEMO)

.PHONY: test-packages
test-packages:
	@./deploy/need-packages $(TEST_PACKAGES) $(DEB_PACKAGES)

.PHONY: test
test: setup test-packages check ## all checks: format, lint, types, import contracts, tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

.PHONY: acceptance
acceptance: setup ## the package on a real kernel: a Debian guest under QEMU, CH340s by USB/IP (ten minutes; root)
	@$(BIN)/python -m tests.acceptance.run $(ACCEPTANCE)

.PHONY: bench
bench: setup ## measure the station on virtual boards and print the table (eleven minutes; BENCH="hands batches": one)
	@$(BIN)/python -m tests.benchmarks.bench $(BENCH)

.PHONY: deb
deb: ## build dist/flashing-station_VERSION_ARCH.deb for this machine's architecture; prints its path
	@./deploy/need-packages $(DEB_PACKAGES)
	VERSION="$(VERSION)" TEST_MIGRATION="$(TEST_MIGRATION)" ./deploy/deb/make-deb

.PHONY: check
check: setup ## format, lint, types and import contracts only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lock
lock: ## renew requirements.lock and the part of it that is installed on a bench (needs uv)
	lock() {
	  uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --upgrade "$$@"
	}
	lock --all-extras -o requirements.lock
	lock --constraint requirements.lock -o requirements-runtime.lock

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
