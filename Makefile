# Front door. Every target does its own set-up; a target that is not here fails.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:

PYTHON_ENV := $(CURDIR)/.venv/bin/python
ROOT := scripts/as-root
BENCHES := bench-datapath bench-base bench-replay bench-realism bench-fleet bench-enrol bench-guardian bench-powercut

.PHONY: help setup preflight bpf lab lab-check test test-fast lint messages clean $(BENCHES)

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## system packages, virtual environment, catalogues, BPF object; does only what is missing
	@scripts/setup

preflight: setup
	@$(ROOT) $(PYTHON_ENV) scripts/preflight.py

bpf: setup ## the data path's object, by every clang that is here
	@$(MAKE) -C firmware/bpf all all-clangs

lab: preflight ## a town hall, its box, its department and an internet on this machine, with a live view
	@$(ROOT) $(PYTHON_ENV) -m lab

lab-check: preflight ## the same without a person: a table, one JSON line, exit 0 only if all holds
	@$(ROOT) $(PYTHON_ENV) -m lab --check

test: preflight lint ## everything: lint, types, unit, kernel, namespaces, real servers
	@$(ROOT) scripts/test-all $(PYTHON_ENV) $(ARGS)

test-fast: setup ## under a minute, without root: no kernel, no namespaces, nothing slow
	@$(PYTHON_ENV) -m pytest -m "not netns and not bpf and not integration and not vm and not slow" $(ARGS)

lint: setup ## ruff, mypy, the published list of fields
	@$(PYTHON_ENV) -m ruff check .
	@$(PYTHON_ENV) -m ruff format --check .
	@$(PYTHON_ENV) -m mypy
	@$(PYTHON_ENV) scripts/privacy_table.py --check

messages: setup ## bring the translations in line with the texts in the code
	@$(PYTHON_ENV) scripts/catalogues.py update

bench-datapath: preflight ## packets, connections and nanoseconds, against the plain bridge and nftables
	@$(ROOT) $(PYTHON_ENV) -m bench.datapath $(ARGS)

bench-base: preflight ## compiling, loading and changing a base of 2 million indicators
	@$(ROOT) $(PYTHON_ENV) -m bench.base $(ARGS)

bench-replay: preflight ## packets per second of `vigie replay`
	@$(ROOT) $(PYTHON_ENV) -m bench.replay $(ARGS)

bench-realism: preflight ## false blocks per office day, real base over benign captures
	@$(ROOT) $(PYTHON_ENV) -m bench.realism $(ARGS)

bench-fleet: preflight ## a thousand boxes against the broker, the ingest and the repository
	@$(ROOT) $(PYTHON_ENV) -m bench.fleet $(ARGS)

bench-enrol: preflight ## 698 boxes that enrol at once
	@$(ROOT) $(PYTHON_ENV) -m bench.enrol $(ARGS)

clean: ## what builds and tests made; the virtual environment stays
	@rm -rf build dist firmware/bpf/build firmware/dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find firmware provisioning ota department lab vm hil bench tests scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@find firmware/src department/src provisioning/src -name '*.mo' -delete

# One file a subject: the image, the virtual board.
include $(wildcard make/*.mk)
