# `make demo` and `make test` each work first in a fresh clone that has only Python, pip and make.
# On Linux the public registry's torch carries CUDA (several GB); for the CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
# Processes that run tests; each takes about 1 GB of memory. WORKERS=0 runs all in one.
WORKERS ?= 2
# For example PYTEST_FLAGS="--durations 50 tests/nn".
PYTEST_FLAGS ?=
READY := .venv/.ready
# A file's tests stay in one process, where they share fits and compilations.
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all test-formats bench lint clean

# Threads that wait give the core back soon: on a crowded machine a training step took 26 ms instead of 331.
demo test test-all test-formats: export GOMP_SPINCOUNT ?= 1000

demo: $(READY)
	rm -rf runs/demo
	$(BIN)/gatewise fit forecast -o runs/demo
	$(BIN)/gatewise predict runs/demo
	$(BIN)/gatewise compare forecast

test: lint
	$(PYTEST) -m "not slow" $(PYTEST_FLAGS)

test-all: lint
	$(PYTEST) $(PYTEST_FLAGS)

# With the frameworks themselves: Keras, Flax, Equinox, ONNX Runtime.
test-formats: $(READY)
	$(BIN)/python -m pip install --editable ".[formats]"
	$(PYTEST) tests/formats tests/tasks/test_exporting.py tests/test_cli_convert.py tests/test_cli_export.py $(PYTEST_FLAGS)

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
