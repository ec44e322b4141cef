# make run    the whole study at laptop scale       make run ARGS="seed=1 attribution=signed_share"
# make test   lint, types and tests                  make slow   real runs and builds
# make bench  speed, as ratios measured in one run
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

.PHONY: help run test slow bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make run     the whole study (experiment $(EXPERIMENT)); more settings: make run ARGS="seed=1 trainer=cpu"'
	@echo 'make test    ruff, mypy and the quick tests; fails if any of them does'
	@echo 'make slow    the slow tests: real runs, building the wheel'
	@echo 'make bench   the benchmarks: ratios to a plain implementation and to this machine'"'"'s floor (half an hour)'
	@echo 'make clean   remove .venv and what the tools left (not outputs/)'
	@echo 'make help    this'

run: $(VENV)/.stamp-run
	$(BIN)/python -m faig_lab experiment=$(EXPERIMENT) $(ARGS)

test: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

slow: $(VENV)/.stamp-dev
	$(BIN)/pytest -m slow

# The full network, trained just long enough to differ from its baseline, is what attribution is measured on.
BENCH := outputs/bench
bench: $(VENV)/.stamp-dev
	$(PIP) opencv-python-headless
	$(BIN)/python -m faig_lab experiment=blur_noise network=srresnet training.baseline.iterations=300 \
		training.target.iterations=300 training.validate_every=300 logger=none hydra.run.dir=$(BENCH)
	$(BIN)/python benchmarks/quadrature.py $(BENCH) --images 1 --csv $(BENCH)/quadrature.csv
	$(BIN)/python benchmarks/attribution.py $(BENCH) --csv $(BENCH)/attribution.csv
	$(BIN)/python benchmarks/training.py --csv $(BENCH)/training.csv

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
