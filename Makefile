# Each target works on a fresh machine: Python 3.11 or newer and a network to the package index are enough.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUNNABLE := $(VENV)/.runnable
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60

.PHONY: demo test check bench tools requirements clean

demo: $(RUNNABLE)         ## a demo upstream, the gateway, a batch sent and printed; then it keeps serving
	$(BIN)/python -m gateway demo

test: check tools         ## everything: house rules, types, and all tests, with branch coverage
	sh tests/run

check: $(READY)           ## the static half of `make test`
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) tools     ## the gateway beside its peers; prints the table, fails where a target is missed by a tenth
	$(BIN)/python -m tests.bench

tools: $(READY)           ## the programs that tests stand beside (nginx, ...): installed when missing and we are root
	sh tests/tools

$(RUNNABLE): config/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r config/requirements.txt
	touch $@

$(READY): $(RUNNABLE) tests/requirements.txt pyproject.toml
	$(PIP) --require-hashes -r tests/requirements.txt
	$(PIP) --no-build-isolation --no-deps -e .
	touch $@

requirements:             ## compile the hashed requirement files anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header -q --extra jwt -o config/requirements.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header -q --all-extras -o tests/requirements.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist
