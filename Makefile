# Everything runs in one virtual environment that `make` builds on first use; Python 3.11 to 3.13 is enough to start.
#
#   make demo PYTHON=python3.12            choose the interpreter
#   make demo TORCH="torch==2.12.0"        choose the torch (any options of pip install); one that fits is kept
#   make test WORKERS=8 TESTS=tests/recon  choose how many processes run which tests

VENV ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
WORKERS ?= 2
TESTS ?=

# The benchmark has an environment of its own, with other toolboxes: BENCH="--quick" are options of benchmarks/bench.py.
BENCH ?=
BENCH_VENV ?= .venv-bench
PEERS ?= astra-toolbox==2.5.0 itk-rtk==2.7.0.post1 scikit-image==0.26.0

PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check -qq install

# The version of the torch that is installed, if it can be imported and raymend can use it.
TORCH_FOUND = $(PY) -c 'import torch; v = torch.__version__; \
	print(v) if (2, 11) <= tuple(map(int, v.split(".")[:2])) < (2, 14) else exit(1)' 2>/dev/null

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench accuracy notebooks clean

help:  ## list what make can do
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: $(VENV)/.ready-core  ## set up, then reconstruct a simulated scan into raymend-demo/
	$(VENV)/bin/raymend demo

test: $(VENV)/.ready-test lint  ## set up, then check style, types, layers and run all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

lint: $(VENV)/.ready-test  ## check style, types and layers
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.ready-test  ## format the code and mend what ruff can mend
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(BENCH_VENV)/.ready-bench  ## time the projectors and methods, beside ASTRA, RTK, diffct and scikit-image
	$(BENCH_VENV)/bin/python benchmarks/bench.py $(BENCH)

accuracy: $(VENV)/.ready-test  ## compare projectors with exact line integrals
	$(PY) benchmarks/accuracy.py

notebooks: $(VENV)/.ready-notebooks  ## write the notebooks as .ipynb, run
	$(VENV)/bin/jupytext --to ipynb notebooks/*.py
	$(PY) -m nbconvert --to notebook --inplace --execute notebooks/*.ipynb

clean:  ## remove caches, build and demo output; the environment stays
	rm -rf raymend-demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks .coverage
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so that a set-up that was interrupted starts again.
$(VENV)/.ready-core: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory install-here EXTRAS=
	@touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory install-here EXTRAS='[test,io,compare,dev,triton]'
	@if [ "$$CI" = true ]; then $(PY) .ci/cpu_only.py; fi
	@touch $@ $(VENV)/.ready-core

$(VENV)/.ready-notebooks: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory install-here EXTRAS='[notebooks]'
	@touch $@

# torch comes first and stays: no peer may bring another. diffct's processor code needs torch alone; its dependencies are
# those of its CUDA code. A peer that cannot be had here is left out, and so are its rows.
$(BENCH_VENV)/.ready-bench: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory install-here VENV=$(BENCH_VENV) EXTRAS=
	@for peer in $(PEERS) "--no-deps diffct==2.5.0"; do \
		echo "Installing $$peer"; \
		$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check -qq install -c $(BENCH_VENV)/constraints.txt $$peer \
		2>/dev/null || echo "$$peer: left out, it cannot be installed here"; done
	@touch $@

# A torch that fits is kept whatever constraints.txt says: it may be the only one that suits the machine.
.PHONY: install-here
install-here:
	@if [ -z "$(PYTHON)" ]; then echo "raymend needs Python 3.11 to 3.13 with venv and pip; name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		echo "Creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV) && $(PY) -m pip --version >/dev/null || \
		{ echo "$(VENV) is damaged: remove it and start again" >&2; exit 2; }; fi
	@if torch=$$($(TORCH_FOUND)); then echo "Keeping torch $$torch"; \
	else echo "Installing $(TORCH): some 200 MB for the CPU build, a few minutes"; $(PIP) $(TORCH); fi
	@if ! torch=$$($(TORCH_FOUND)); then echo "TORCH=$(TORCH) left no torch from 2.11 to 2.13 that can be imported:" \
		"name another, or remove $(VENV) and start again" >&2; exit 2; fi; \
	(grep -v '^torch' constraints.txt; echo "torch==$$torch") > $(VENV)/constraints.txt
	@echo "Installing raymend$(EXTRAS) into $(VENV): one to five minutes the first time"
	@$(PIP) -c $(VENV)/constraints.txt -e '.$(EXTRAS)'
