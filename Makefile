# Everything a person or the continuous integration runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

BIN := .venv/bin
HOST ?= 127.0.0.1
PORT ?= 8000
# Empty: the model that ships in the repository.
MODEL ?=
ROUNDS ?= 3
# Most tests wait for one compiler or one Python at a time, so two of them share the machine.
WORKERS ?= 2
TEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# One environment, installed once: a stamp newer than both files means that nothing is to do.
# Developing needs more than the demo, so either stamp will do for the demo.
DEMO_STAMP := .venv/.installed-demo
DEV_STAMP := .venv/.installed-dev
INSTALL_INPUTS := pyproject.toml constraints.txt
CLIENT_INPUTS := tools/clients/requirements.txt tools/clients/package.json
RUN_STAMP := $(if $(wildcard $(DEV_STAMP)),$(DEV_STAMP),$(DEMO_STAMP))

$(DEMO_STAMP): $(INSTALL_INPUTS)
	@tools/install.sh demo
	touch $@

$(DEV_STAMP): $(INSTALL_INPUTS) $(CLIENT_INPUTS)
	@tools/install.sh dev
	tools/install_clients.sh
	touch $@

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-9s %s\n", $$1, $$2 }'

.PHONY: demo
demo: $(RUN_STAMP) ## Start the shipped model, ask it three questions, stop
	@$(BIN)/banyan demo

.PHONY: serve
serve: $(RUN_STAMP) ## Serve a model until you stop it: make serve MODEL=DIR_OR_HUB_ID PORT=8000
	@$(BIN)/banyan serve $(MODEL) --host $(HOST) --port $(PORT)

.PHONY: test
test: lint types docs unit ## Everything below that judges: lint, types, docs, unit

.PHONY: lint
lint: $(DEV_STAMP) ## Format, lint and import contracts
	@echo "== format and lint"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	echo "== import contracts"
	$(BIN)/lint-imports --no-cache

.PHONY: types
types: $(DEV_STAMP) ## mypy --strict on source and tests
	@echo "== types"
	$(BIN)/mypy

.PHONY: docs
docs: $(DEV_STAMP) ## Build the documentation into site/
	@echo "== documentation"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: unit
unit: $(DEV_STAMP) ## The test suite
	@echo "== tests"
	$(TEST) --durations=60 --durations-min=2

# Apart from the tests that judge a change: tracing every line nearly doubles what Python costs.
.PHONY: coverage
coverage: $(DEV_STAMP) ## The test suite with its coverage gate
	@$(TEST) --cov --cov-branch --cov-report=term:skip-covered --cov-fail-under=90

.PHONY: wide
wide: $(DEV_STAMP) ## The sweeps that take minutes: more operations, models, graphs and chips
	@$(TEST) -m wide --hypothesis-profile=searching

.PHONY: bench
bench: $(DEV_STAMP) ## Compare with llama.cpp in one run: make bench ROUNDS=3
	@$(BIN)/python benchmarks/slice.py --rounds $(ROUNDS)

.PHONY: soak
soak: $(DEV_STAMP) ## Twenty minutes at full load with all that goes wrong; fails when memory grows
	@$(BIN)/python -m benchmarks.soak

.PHONY: format
format: $(DEV_STAMP) ## Format and mend what can be mended
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tools.generate_docs

.PHONY: clean
clean: ## Delete what was made here: .venv, site, caches
	@rm -rf .venv site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
