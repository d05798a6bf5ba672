.DEFAULT_GOAL := help
.PHONY: help install demo up test test-long bench lint docs compose-check

# The first Python of at least 3.11 that is found; name another one with `make PYTHON=…`.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := .venv/bin

help:  ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

install: .venv/.installed-demo  ## make .venv with what is locked (the other targets do it by themselves)

demo: install  ## watch simulated leads being nurtured; needs nothing but Python
	@$(BIN)/ripeline demo

up: install  ## the same system without traffic, for curl
	@$(BIN)/ripeline up

test: .venv/.installed-dev tests/node/node_modules  ## all tests but the long ones; needs Java 17, Maven, Node and Chromium
	$(BIN)/python -m tests

test-long: .venv/.installed-dev tests/node/node_modules  ## the long tests alone
	$(BIN)/pytest -m long

bench: .venv/.installed-dev  ## measure speed and memory against plain limits
	$(BIN)/python -m tests.bench

lint: .venv/.installed-dev  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed-dev  ## write docs/openapi, docs/asyncapi.yaml and the playbook's schemas from the code
	$(BIN)/python -m services.ops.documents

compose-check:  ## the whole system under Docker Compose: up, a lead through to its touch, down
	deploy/compose-check

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }

tests/node/node_modules: tests/node/package-lock.json  # JavaScript senders' own clients and AsyncAPI's parser, for tests
	@echo "installing $< into tests/node"
	@cd tests/node && npm ci --silent --ignore-scripts
	@touch $@

# One rule for both locks: .venv/.installed-demo and, with the tools for tests, .venv/.installed-dev.
.venv/.installed-%: requirements-%.lock | .venv/bin/python
	@$(BIN)/python deploy/install $<
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
