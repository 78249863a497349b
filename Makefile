# kinegraph: `make demo` and `make test` are the two commands to start with.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test test-all check format numbers clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,export,cluster]'
	touch $(STAMP)

demo: setup
	$(BIN)/kinegraph demo

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-all: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: setup
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

# Trains every real set and every model family on DATA and rewrites the tables of docs/numbers.md.
DATA ?= ../shared/data
numbers: setup
	$(BIN)/python benchmarks/accuracy.py $(DATA)
	$(BIN)/python benchmarks/models.py $(DATA)

clean:
	rm -rf .venv dist build runs stores demo
