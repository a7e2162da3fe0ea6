# `make run` opens the explorer, `make test` runs the tests; both set up what is missing.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Exact versions with their digests, for every system and Python 3.11 to 3.14; `make lock` makes it from pyproject.toml.
LOCK := .requirements.lock

# The first of these that is new enough and can make an environment; `make PYTHON=...` names another. The candidates
# are run, not only looked up: a version manager's shim may stand for a Python that is not installed.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

# Tests run in two processes; one that has nothing left to do takes tests over from the other.
# Bytecode is kept, whatever the environment says: tests start many processes.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist worksteal --durations 30

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run test lint check nightly docs lock clean chromium

setup: $(STAMP)

# The stamp is written last, so an interrupted installation is resumed; it is older than what it was made from once that
# changes. PyTorch alone, and what only its build for GPUs needs, comes without a digest, by its range in pyproject.toml:
# there is another build for each kind of machine, and one that is installed already stays.
$(STAMP): pyproject.toml $(LOCK)
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
		test -n "$(PYTHON)" || { \
			echo "Python 3.11 or newer with its venv module is needed; on Debian: apt-get install python3 python3-venv" >&2; \
			exit 1; \
		}; \
		$(PYTHON) -m venv --clear $(VENV); \
	}
	@echo "Installing into $(VENV); the first time this downloads PyTorch and takes several minutes."
	$(BIN)/python -m pip install --require-hashes --no-deps --requirement $(LOCK)
	$(BIN)/python -m pip install --no-build-isolation --editable '.[ui,demo,dev]'
	@touch $@

run: setup
	$(BIN)/cahp explore

test: setup chromium
	$(PYTEST)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The linters run beside the tests. They print when they end, which is long before the tests do.
check: setup chromium
	@{ output=$$($(MAKE) --no-print-directory lint 2>&1); status=$$?; printf '\n%s\n' "$$output"; exit $$status; } & \
	$(PYTEST); tests=$$?; \
	wait $$! || { echo "A linter failed; its messages are above, among the tests." >&2; exit 1; }; \
	exit $$tests

# Slow tests of what rarely breaks: run them before a release.
nightly: setup chromium
	$(PYTEST) -m nightly

# The guide as a site: pages in build/guide/site, for any static host or a browser alone, without a network.
docs: setup
	$(BIN)/python assets/guide.py --site
	$(BIN)/zensical build --strict --config-file build/guide/zensical.toml

# Versions that are locked stay, as long as pyproject.toml admits them; `make lock UPGRADE=--upgrade` takes the newest.
lock:
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	$(BIN)/python -m uv pip compile pyproject.toml --extra ui --extra demo --extra dev --group models \
		--universal --python-version 3.11 --generate-hashes --no-emit-package torch --no-header --no-annotate --quiet $(UPGRADE) --output-file $(LOCK)
	@awk '/^[a-z]/ { drop = /^(nvidia|cuda|triton)-?/ } /^#/ { exit } !drop' $(LOCK) > $(LOCK).new
	@mv $(LOCK).new $(LOCK)

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
