# Two commands on a fresh machine: `make run` and `make test`. Each does all its set-up and may be repeated.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-vllm lm-eval check screenshots audit sbom bench litellm lock native native-browser native-fetchers hub-clients

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing locked dependencies (once; torch is large)…"
	@$(BIN)/python -m pip install --quiet -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

run: .venv/ready native
	@$(BIN)/portal init --demo
	@$(BIN)/portal serve --staff-link

test: .venv/ready native native-browser native-fetchers hub-clients
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

test-vllm: .venv/ready native # the portal in front of a real vLLM server; an environment of 3.5 GB
	@$(BIN)/python -m tests.vllm.environment
	@$(BIN)/python -m pytest tests/vllm/real_server.py

lm-eval: .venv/ready # EleutherAI's harness, whose test in the suite is skipped without it; 1 GB
	@$(BIN)/python -m tests.lmeval.environment

check: .venv/ready
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo | tail -n 5
	@$(BIN)/python -m tests.check

audit: .venv/ready # other people's tools over code, packages and a running portal; they lie in .venvs
	@$(BIN)/python -m tests.audit

sbom: .venv/ready # the bill of materials of the locked packages, build/sbom.json
	@$(BIN)/python -m tests.audit sbom

screenshots: .venv/ready native native-browser # of every page, at three widths, in light and dark
	@rm -rf screenshots
	@PORTAL_PICTURES=screenshots $(BIN)/python -m pytest -q tests/browser
	@$(BIN)/python -m tests.browser.sheets screenshots

bench: .venv/ready
	@$(BIN)/python -m tests.bench

litellm: # a peer for the benchmarks, in an environment of its own
	@$(PYTHON) -m venv .venvs/litellm
	@.venvs/litellm/bin/pip install --quiet 'litellm[proxy]==1.106.2' orjson opentelemetry-sdk==1.33.1 \
	  opentelemetry-exporter-otlp==1.33.1 opentelemetry-instrumentation-fastapi==0.54b1

native: .venv/ready
	@$(BIN)/python -m tests.native pango

native-browser: .venv/ready
	@$(BIN)/python -m tests.native chromium

native-fetchers: .venv/ready
	@$(BIN)/python -m tests.native fetchers

hub-clients: .venv/ready
	@$(BIN)/python -m tests.hub.environments

lock: # run by hand after changing the ranges in pyproject.toml
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/pip install --quiet 'torch==2.13.0' '.[test,check]'
	@.venv-lock/bin/pip freeze --exclude bloom-portal | grep -viE '^(nvidia|triton|cuda)' | sed -e 's/^torch==.*/torch==2.13.0/' > requirements.lock
	@rm -rf .venv-lock
