# `make` alone does what CI does. Everything is installed by the targets that need it.
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
REAL := tests/contract tests/integration tests/e2e -q --require podman,postgresql,dynamodb,btrfs,systemd
CLUSTER := tests/cluster tests/contract tests/e2e -q --require podman,kubernetes
STAMP := $(VENV)/.installed
BASE_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)

.PHONY: all check test test-quick demo bench bench-kubernetes docs setup clean cluster cluster-down

all: check test

setup:
	scripts/setup --test

$(STAMP): pyproject.toml requirements-dev.txt
	scripts/setup --test
	test -x $(PY) || $(BASE_PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-dev.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	touch $(STAMP)

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(STAMP)
	scripts/setup --cluster
	$(PY) -m tests.cluster build
	$(PY) -m pytest tests/unit tests/docs -q -n 2
	$(PY) -m pytest $(REAL) -n 2 --dist loadfile --no-loadscope-reorder -m "not alone and not kubernetes"
	$(PY) -m pytest $(REAL) -m "alone and not kubernetes"
	$(PY) -m pytest $(CLUSTER) -n 2 --dist loadfile --no-loadscope-reorder -m kubernetes

test-quick: $(STAMP)
	$(PY) -m pytest tests/unit tests/docs -q -n 2 -m "not cold"

demo: $(STAMP)
	$(PY) scripts/demo.py

bench: $(STAMP)
	$(PY) -m bench

# Starts the cluster of the next target, unless it runs.
bench-kubernetes: $(STAMP)
	scripts/setup --cluster
	$(PY) -m bench.kubernetes

# A Kubernetes cluster of two nodes on this machine. The first time builds Kubernetes, which takes about 15 minutes.
cluster: $(STAMP)
	scripts/setup --cluster
	$(PY) -m tests.cluster up

cluster-down: $(STAMP)
	$(PY) -m tests.cluster down

docs: $(STAMP)
	$(PY) -m odc.cli.reference
	$(PY) -m odc.operator.settings_page
	$(PY) -m odc.operator.json_page
	$(PY) -m odc.entrypoints.bootstrap.openapi_page
	$(PY) -m odc.operator.lifecycle_page
	$(PY) -m odc.adapters.kubernetes.rights

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
