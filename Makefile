# Everything runs in .venv, made by `make setup` from requirements.lock. Paths are relative, so that the
# folder of the repository may have spaces in its name.
.DEFAULT_GOAL := help
SHELL := /bin/bash

METHOD ?= ssnaps
CLIPS ?= 50
DATA ?= synthetic
CLUSTER ?= local
ARGS ?=
LIPS_ARGS ?= $(ARGS)
UV_VERSION := 0.13.8

BIN := .venv/bin
STAMP := .venv/.installed
# $(call fit,training,kind of data,more arguments)
fit = $(BIN)/avdiff fit --config experiments/base.yaml --config experiments/train/$(1).yaml \
	--config experiments/data/$(2)/$(DATA).yaml --config experiments/cluster/$(CLUSTER).yaml $(3)
known = @test -f experiments/data/$(1)/$(DATA).yaml || { echo "DATA=$(DATA) has no file experiments/data/$(1)/$(DATA).yaml; there are: $$(cd experiments/data/$(1) && ls | sed 's/\.yaml//' | xargs)" >&2; exit 1; }

.PHONY: help setup test test-slow demo benchmark train-speech train-noise lint format lock clean

help: ## list every target
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## make .venv with everything in it (PYTHON=/path/to/python to choose one of 3.10 to 3.12)

$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	usable() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }; \
	if [ -n "$(PYTHON)" ]; then \
	  usable "$(PYTHON)" || { echo 'PYTHON="$(PYTHON)" is not a Python 3.10, 3.11 or 3.12 with its venv module; give the path of one that is.' >&2; exit 1; }; \
	  python="$(PYTHON)"; \
	else \
	  for python in .venv/bin/python python3.11 python3.12 python3.10 python3 python none; do \
	    if usable "$$python"; then break; fi; \
	  done; \
	  [ "$$python" != none ] || { echo 'No Python 3.10, 3.11 or 3.12 with its venv module was found; install one or run: make setup PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	fi; \
	if ! usable $(BIN)/python || { [ -n "$(PYTHON)" ] && [ "$$("$(PYTHON)" -V)" != "$$($(BIN)/python -V)" ]; }; then \
	  "$$python" -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# Bytecode is compiled here once: every process would do it again where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --requirement requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	@touch $(STAMP)

test: setup ## run the tests (those that take longer than 20 s: make test-slow)
	$(BIN)/python -m pytest $(ARGS)

test-slow: setup ## run the tests that take longer
	$(BIN)/python -m pytest -m slow $(ARGS)

demo: setup ## separate two embedded talkers and noise with the shipped priors; leaves a report
	$(BIN)/avdiff demo $(ARGS)

benchmark: setup ## score a method on the embedded benchmark: METHOD=ssnaps CLIPS=50
	$(BIN)/avdiff benchmark --method $(METHOD) --clips $(CLIPS) $(ARGS)

train-speech: setup ## train the lip encoder, then the audio-visual speech prior: DATA=synthetic CLUSTER=local
	$(call known,lips)
	$(call known,speech)
	$(call fit,lips,lips,$(LIPS_ARGS))
	$(call fit,speech,speech,$(ARGS))

train-noise: setup ## train the noise prior: DATA=synthetic CLUSTER=local
	$(call known,noise)
	$(call fit,noise,noise,$(ARGS))

lint: setup ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --fork-strategy fewest --no-header --python-version 3.10 --upgrade --extra dev --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
