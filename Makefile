# make look   a first look in a minute, no training  make look ARGS="attribution.name=faig"
# make run    the whole study at laptop scale       make run ARGS="seed=1 attribution=signed_share"
# make test   lint, types and tests                  make slow   real runs and builds
# make bench  speed, as ratios measured in one run   make study STUDY=planted   run a study of experiments/ again
# Every target installs its packages in .venv; `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
EXPERIMENT ?= blur_noise
ARGS ?=
# Additional arguments for pip. On Linux PyPI's torch brings the CUDA libraries (gigabytes). Without a GPU:
#   make run PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# The first Python that is new enough; PYTHON=/path/to/python3.12 chooses another Python.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1 && command -v $$p && break; done)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet $(PIP_ARGS) -c constraints.txt

.PHONY: help look run test slow test-spandrel docs notebooks wheel lock bench bench-gpu gpu test-gpu study clean
.DELETE_ON_ERROR:

help:
	@echo 'make look    the finding in a minute, on two trained networks that ship with the package'
	@echo 'make run     the whole study (experiment $(EXPERIMENT)); more settings: make run ARGS="seed=1 trainer=cpu"'
	@echo 'make test    ruff, mypy and the quick tests; fails if one of them fails'
	@echo 'make slow    the slow tests: real runs, building the wheel'
	@echo 'make docs    the documentation as a site with search, in build/docs/ (works offline)'
	@echo 'make notebooks  run the notebooks and store their outputs in them'
	@echo 'make wheel   build dist/*.whl; make wheel PYTHONS="python3.12 python3.13" tries the wheel with each Python'
	@echo 'make lock    write uv.lock (needs uv): the versions of constraints.txt, with hashes'
	@echo 'make test-spandrel  the tests of network=spandrel, in an environment of its own (5 GB: torch with torchvision)'
	@echo 'make bench   the benchmarks: ratios to a plain implementation and to this machine'"'"'s best rate (half an hour);'
	@echo '             make bench-gpu on a GPU; only some parts: make bench ARGS="--parts ab"'
	@echo 'make gpu     test, measure and use a GPU in ten minutes: make gpu ARGS="--minutes 9 --data DIR --out DIR";'
	@echo '             make test-gpu the tests that need a GPU'
	@echo 'make study   run a study of experiments/ again: make study STUDY=planted (minutes to hours)'
	@echo 'make clean   remove .venv, .venv-spandrel and the caches of the tools (not outputs/)'
	@echo 'make help    this list'

look: $(VENV)/.stamp-run
	$(BIN)/python -m faig_lab experiment=first_look $(ARGS)

run: $(VENV)/.stamp-run
	$(BIN)/python -m faig_lab experiment=$(EXPERIMENT) $(ARGS)

# Test processes, each with one thread: one for each core, 8 at most. make test JOBS=0 uses one process.
# A process has one file at a time, in the order of tests/conftest.py.
JOBS ?= $(shell $(BIN)/python -c 'import os; print(min(os.cpu_count() or 1, 8))')
test: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.stamp-dev
	$(BIN)/pytest -m slow

docs: $(VENV)/.stamp-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict # not --quiet: it hides warnings from --strict
	@echo 'build/docs/index.html'

notebooks: $(VENV)/.stamp-dev
	$(BIN)/python tests/notebook_case.py $(sort $(wildcard notebooks/*.ipynb))

# Each Python installs the wheel and its dependencies in an environment of its own and runs the first look.
PYTHONS ?=
wheel: $(VENV)/.stamp-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist --no-isolation .
	for python in $(PYTHONS); do $(BIN)/python tests/wheel_case.py $$python dist/*.whl $(PIP_ARGS) || exit 1; done

UV ?= uv
lock:
	@$(UV) lock $(addprefix -P ,$(shell sed '/^\#/d' constraints.txt))
# torchvision, which spandrel needs, runs beside one release of torch alone. So these tests have packages of their own.
SPANDREL := .venv-spandrel
test-spandrel: $(SPANDREL)/.stamp
	PYTHONPATH=src $(SPANDREL)/bin/python -m pytest tests/with_spandrel

$(SPANDREL)/.stamp: pyproject.toml constraints.txt constraints-spandrel.txt
	@echo 'installing faig_lab with spandrel into $(SPANDREL) (once, several GB)'
	$(PYTHON) -m venv $(SPANDREL)
	grep -vE '^(torch|torchvision)==' constraints.txt > $(SPANDREL)/constraints.txt
	$(SPANDREL)/bin/python -m pip install --disable-pip-version-check --no-input --quiet $(PIP_ARGS) \
		-c $(SPANDREL)/constraints.txt -c constraints-spandrel.txt -e '.[spandrel]' pytest pytest-timeout
	@touch $@

# Results are written to benchmarks/results. make bench ARGS="--parts ab --quick": some parts, on a smaller network.
DEVICE ?= cpu
bench: $(VENV)/.stamp-dev
	$(PIP) opencv-python-headless
	$(BIN)/python -m benchmarks --device $(DEVICE) $(ARGS)

bench-gpu:
	@$(MAKE) --no-print-directory bench DEVICE=cuda

# The work for a GPU that is available for some minutes. Nothing is installed: the packages are those of
# .venv if it exists, otherwise those of the machine's own Python.
HERE = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:
	@$(HERE) -m benchmarks.gpu $(ARGS)

test-gpu:
	PYTHONPATH=src $(HERE) -m pytest -m gpu

# Run a study in outputs/studies and write its tables and figures to experiments/. Trained networks are kept.
STUDY ?=
DATA ?=
STUDIES := $(patsubst experiments/%/run.sh,%,$(sort $(wildcard experiments/*/run.sh)))
study: $(VENV)/.stamp-run
	@test -n "$(filter $(STUDY),$(STUDIES))" || { echo 'error: STUDY=$(STUDY): no such study; one of: $(STUDIES)' >&2; exit 1; }
	@test -d "$(DATA)/train" || ! grep -q DATA experiments/$(STUDY)/run.sh || { \
		echo 'error: DATA=$(DATA): the study $(STUDY) needs a folder with train/, probe/ and test/ in it' >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" DATA="$(DATA)" sh -ex experiments/$(STUDY)/run.sh

clean:
	rm -rf $(VENV) $(SPANDREL) .mypy_cache .pytest_cache .ruff_cache dist build
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-run: $(BIN)/python pyproject.toml constraints.txt
	@echo 'installing faig_lab and its dependencies into $(VENV) (once, a few minutes)'
	$(PIP) -e .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo 'installing the tools for the tests into $(VENV) (once)'
	$(PIP) --upgrade 'pip>=25.1' # --group
	$(PIP) -e . --group dev
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'error: no Python >= 3.11 found; install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'error: $(PYTHON) cannot make a virtual environment; install its venv package (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
