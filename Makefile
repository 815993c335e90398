# `make demo` and `make test` each work first in a fresh clone that has only Python, pip and make.
# On Linux the public registry's torch carries CUDA (several GB); for the CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all bench lint clean

# Threads that wait give the core back soon: on a crowded machine a training step took 26 ms instead of 331.
demo test test-all: export GOMP_SPINCOUNT ?= 1000

demo: $(READY)
	rm -rf runs/demo
	$(BIN)/gatewise fit forecast -o runs/demo
	$(BIN)/gatewise predict runs/demo
	$(BIN)/gatewise compare forecast

test: lint
	$(BIN)/pytest -m "not slow"

test-all: lint
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benches.layers

clean:
	rm -rf .venv runs dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.lock
	$(BIN)/python -m pip install --no-deps --editable .
	touch $@
