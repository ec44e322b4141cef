# make look   a first look in a minute, no training  make look ARGS="attribution.name=faig"
# make run    the whole study at laptop scale       make run ARGS="seed=1 attribution=signed_share"
# make test   lint, types and tests                  make slow   real runs and builds
# make bench  speed, as ratios measured in one run   make study STUDY=blur_noise   one of experiments/, anew
# Every target sets up what it needs in .venv; `make help` lists them.

VENV := .venv
BIN := $(VENV)/bin
EXPERIMENT ?= blur_noise
ARGS ?=
# More arguments for pip. On Linux PyPI's torch brings the CUDA libraries (gigabytes); without a GPU:
#   make run PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# The first Python that is new enough; PYTHON=/path/to/python3.12 chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1 && command -v $$p && break; done)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet $(PIP_ARGS) -c constraints.txt

.PHONY: help look run test slow bench bench-gpu gpu test-gpu study clean
.DELETE_ON_ERROR:

help:
	@echo 'make look    the finding in a minute, on two trained networks that ship with the package'
	@echo 'make run     the whole study (experiment $(EXPERIMENT)); more settings: make run ARGS="seed=1 trainer=cpu"'
	@echo 'make test    ruff, mypy and the quick tests; fails if any of them does'
	@echo 'make slow    the slow tests: real runs, building the wheel'
	@echo 'make bench   the benchmarks: ratios to a plain implementation and to this machine'"'"'s floor (half an hour);'
	@echo '             make bench-gpu on a GPU; some parts: make bench ARGS="--parts ab"'
	@echo 'make gpu     prove, measure and use a GPU in ten minutes: make gpu ARGS="--minutes 9 --data DIR --out DIR";'
	@echo '             make test-gpu the tests that need one'
	@echo 'make study   a study of experiments/ from its commands: make study STUDY=blur_noise (minutes to hours)'
	@echo 'make clean   remove .venv and what the tools left (not outputs/)'
	@echo 'make help    this'

look: $(VENV)/.stamp-run
	$(BIN)/python -m faig_lab experiment=first_look $(ARGS)

run: $(VENV)/.stamp-run
	$(BIN)/python -m faig_lab experiment=$(EXPERIMENT) $(ARGS)

# Processes that test, each with one thread: one for each core, 8 at most. make test JOBS=0 tests in one process.
JOBS ?= $(shell $(BIN)/python -c 'import os; print(min(os.cpu_count() or 1, 8))')
test: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

slow: $(VENV)/.stamp-dev
	$(BIN)/pytest -m slow

# Results go to benchmarks/results. make bench ARGS="--parts ab --quick": some parts, on a smaller network.
DEVICE ?= cpu
bench: $(VENV)/.stamp-dev
	$(PIP) opencv-python-headless
	$(BIN)/python -m benchmarks --device $(DEVICE) $(ARGS)

bench-gpu:
	@$(MAKE) --no-print-directory bench DEVICE=cuda

# What a GPU is wanted for, in the minutes that it is there; nothing is installed. With the packages of .venv where it
# is there, else with those of the machine's own Python.
HERE = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:
	@$(HERE) -m benchmarks.gpu $(ARGS)

test-gpu:
	PYTHONPATH=src $(HERE) -m pytest -m gpu

# The commands of a study, into outputs/studies, and its tables and figures into experiments/. What is trained stays.
STUDY ?=
DATA ?=
STUDIES := $(patsubst experiments/%/run.sh,%,$(sort $(wildcard experiments/*/run.sh)))
study: $(VENV)/.stamp-run
	@test -n "$(filter $(STUDY),$(STUDIES))" || { echo 'error: STUDY=$(STUDY): no such study; one of: $(STUDIES)' >&2; exit 1; }
	@test -d "$(DATA)/train" || ! grep -q DATA experiments/$(STUDY)/run.sh || { \
		echo 'error: DATA=$(DATA): the study $(STUDY) needs a folder with train/, probe/ and test/ in it' >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" DATA="$(DATA)" sh -ex experiments/$(STUDY)/run.sh

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache dist build
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-run: $(BIN)/python pyproject.toml constraints.txt
	@echo 'installing faig_lab and what it needs into $(VENV) (once, a few minutes)'
	$(PIP) -e .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo 'installing the tools that the tests need into $(VENV) (once)'
	$(PIP) -e '.[dev]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'error: no Python >= 3.11 found; install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'error: $(PYTHON) cannot make a virtual environment; install its venv package (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
