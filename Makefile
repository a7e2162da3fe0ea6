# `make run` opens the explorer, `make test` runs the tests; both set up what is missing.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first of these that is new enough and can make an environment; `make PYTHON=...` names another. The candidates
# are run, not only looked up: a version manager's shim may stand for a Python that is not installed.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

# Tests run in two processes; one that has nothing left to do takes tests over from the other.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run test check clean chromium

setup: $(STAMP)

# The stamp is written last, so an interrupted installation is resumed; it is older than a changed pyproject.toml.
$(STAMP): pyproject.toml
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
		test -n "$(PYTHON)" || { \
			echo "Python 3.11 or newer with its venv module is needed; on Debian: apt-get install python3 python3-venv" >&2; \
			exit 1; \
		}; \
		$(PYTHON) -m venv --clear $(VENV); \
	}
	@echo "Installing into $(VENV); the first time this downloads PyTorch and takes several minutes."
	$(BIN)/python -m pip install --editable '.[ui,demo,dev]'
	@touch $@

run: setup
	$(BIN)/cahp explore

test: setup chromium
	$(PYTEST)

check: setup chromium
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

# The browser tests need Chromium. Without it they skip, except in CI.
chromium:
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || test "$$(id -u)" != 0 || { \
		echo "Installing Chromium for the browser tests."; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium >/dev/null; \
	} || { \
		echo "Chromium could not be installed: the browser tests will not run." >&2; \
		test -z "$$CI"; \
	}

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-results
	find app.py pages cahp tests -name __pycache__ -prune -exec rm -rf {} +
