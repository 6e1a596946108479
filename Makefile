# Two commands matter: make run, make test.  `make` alone lists the rest.
# Another Python: make run PYTHON=python3.12; options of a command: make run ARGS="--port 7861".

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && exit; \
	done; echo python3)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test lint train evaluate bench soak python clean

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'
	@echo 'Options of a command: make run ARGS="--port 7861"'

setup: $(VENV)/run.stamp ## make .venv and install what the program needs

setup-dev: $(VENV)/dev.stamp

run: setup ## start the program and print where its page is
	@exec $(PY) app.py $(ARGS)

test: setup-dev ## run every test, those in a browser included
	@$(PY) tests/browser_setup.py
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

lint: setup-dev ## check the style
	@$(PY) -m ruff check . $(ARGS)

train: setup-dev ## train the embedded model from scratch (hours; resumes)
	@$(PY) -m pocket.train $(ARGS)

evaluate: setup-dev ## measure the embedded model, print JSON
	@$(PY) -m pocket.evaluate $(ARGS)

bench: setup-dev ## measure speed against plain diffusers
	@$(PY) -m benchmarks.run $(ARGS)

soak: setup-dev ## use, overload and kill the running program for half an hour
	@$(PY) -m benchmarks.soak $(ARGS)

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "There is no $(PYTHON) here; install Python 3.11, 3.12 or 3.13." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$$($(PYTHON) --version 2>&1) is not supported; install Python 3.11, 3.12 or 3.13, or name one: make run PYTHON=python3.12." >&2; exit 1; }

$(PY): | python
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv." >&2; exit 1; }

$(VENV)/run.stamp: requirements.txt | $(PY)
	@echo "Installing the requirements (once; about a minute) ..."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
