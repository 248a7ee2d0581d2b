# SPDX-License-Identifier: MIT
# Needs Python >= 3.10, a C++ compiler and make. PYTHON=... picks the interpreter, PIP_ARGS=... reaches pip (another index, a wheel folder).
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=

bin := $(VENV)/bin
pip := $(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
native := CMakeLists.txt pyproject.toml constraints.txt $(shell find src -name '*.cpp' -o -name '*.h' -o -name '*.c')

.PHONY: help setup demo test check bench peers docs clean
help:
	@echo "make demo    record and capture a performance of a made-up face (two minutes)"
	@echo "make test    all tests"
	@echo "make check   format, lint, types, import contracts"
	@echo "make bench   the benchmark table; results in benchmarks/results/. BENCH_ARGS=--quick for a minute's run"
	@echo "make peers   installs the other programs that the benchmark times beside this one"
	@echo "make docs    the documentation, in docs/_build/html"

$(bin)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.tools: constraints.txt | $(bin)/python
	$(pip) scikit-build-core cmake ninja setuptools
	@touch $@

# The kernels are compiled here; Python files are used in place.
$(VENV)/.library: $(VENV)/.tools $(native)
	@echo "Installing torch and compiling the kernels (the first time takes a few minutes) ..."
	$(pip) torch numpy
	PATH="$(abspath $(bin)):$$PATH" $(pip) --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.library
	PATH="$(abspath $(bin)):$$PATH" $(pip) --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.library
	PATH="$(abspath $(bin)):$$PATH" $(pip) --no-build-isolation --editable '.[docs]'
	@touch $@

setup: $(VENV)/.dev

# The head model brings packages that nothing else needs.
$(VENV)/.capture: $(VENV)/.library
	PATH="$(abspath $(bin)):$$PATH" $(pip) --no-build-isolation --editable '.[capture]'
	@touch $@

demo: $(VENV)/.capture
	$(bin)/rastergrad demo capture --out results/demo/capture
	@echo "Captured a performance. Open results/demo/capture/result/report.html, or run: $(bin)/rastergrad view results/demo/capture/result"

test: $(VENV)/.dev
	$(bin)/python -m pytest $(PYTEST_ARGS) --junitxml=results/tests.xml
	@echo "All tests passed. Report: results/tests.xml"

check: $(VENV)/.dev
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/basedpyright --pythonpath $(bin)/python
	$(bin)/lint-imports
	@echo "Format, lint, types and import contracts are in order."

bench: $(VENV)/.library
	$(bin)/python -m benchmarks $(BENCH_ARGS)

peers: $(VENV)/.library
	PATH="$(abspath $(bin)):$$PATH" $(pip) --no-build-isolation --editable '.[bench]'
	@echo "For llvmpipe and Mitsuba's LLVM, in Debian: apt-get install libegl1 libgl1-mesa-dri libgles2 libllvm15"

docs: $(VENV)/.docs
	$(bin)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "The documentation lies in docs/_build/html/index.html"

clean:
	rm -rf build results docs/_build
