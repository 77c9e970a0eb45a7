# Needs only Python 3.11 or newer and make:
#   make demo    decloud a simulated area, offline, and show the result
#   make test    lint, types, import rules, doctests and tests
#   make server  a Prefect server and its workers on this machine, until ctrl-C
#   make deploy  work pools, deployments and automations onto a Prefect server: needs DECLOUD_HOME
#   make integration  the same with real servers, workers and kill -9, for some minutes, and a training on real data
#   make faults  kill -9 two hundred times, full disks, clocks that jump and the rest of docs/reliability.md: half an hour
#   make bench   decloud side by side with what users would otherwise write: see docs/benchmarks.md
# Another interpreter: make PYTHON=python3.12 test. More arguments for pytest: make test PYTEST="-k tiling".

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
PYTEST ?=
SERVER ?=
DEPLOY ?=
BENCH ?=
BENCH_WORK ?= .scratch/bench
FAULT_KILLS ?= 200
FAULT_SEED ?= 8
WORKER_KILLS ?= 4

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DELETE_ON_ERROR:
.PHONY: help install dev demo test integration faults bench server deploy lint format clean distclean

help:
	@sed -n 's/^#  *make/  make/p' Makefile

# The stamps lie in the environment, so removing it forgets them; a change of the requirements installs again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing declouder into $(VENV) (torch is large: some minutes)"
	@$(PIP) --editable .
	@touch $@

# One call for everything, as two would look at every package twice.
$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing declouder with the tools for tests into $(VENV) (torch is large: some minutes)"
	@$(PIP) --editable '.[dev,csmask,s2cloudless,onnx,evaluate]'
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

demo: install
	$(BIN)/decloud demo --output $(DEMO)

lint: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# A worker for each core, a file of tests always in one worker: what its fixtures made is used again.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST)

# Servers, workers and a database of their own, and a whole training; one at a time, as they measure time.
integration: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m integration tests/integration tests/flows/test_train_real.py $(PYTEST)

# Another list of moments: make faults FAULT_SEED=9. Fewer: make faults FAULT_KILLS=60, which is what `make test` does.
# Then Prefect's workers with the flows that they run, on servers of their own.
faults: dev
	OMP_NUM_THREADS=1 DECLOUD_FAULT_KILLS=$(FAULT_KILLS) DECLOUD_FAULT_SEED=$(FAULT_SEED) \
	  $(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/faults $(PYTEST)
	OMP_NUM_THREADS=1 DECLOUD_KILLS=$(WORKER_KILLS) DECLOUD_KILL_SEED=$(FAULT_SEED) \
	  $(BIN)/python -m pytest -m integration -s tests/integration/test_kill.py

# One line, more rounds: make bench BENCH="--only identity --rounds 5". Contenders get an environment of their own.
bench: install
	$(BIN)/python -m benchmarks.bench --work $(BENCH_WORK) $(BENCH)

# More arguments: make server SERVER="--port 4300". PostgreSQL: DECLOUD_DATABASE_URL=postgresql://...
server: install
	@$(BIN)/python -m flows.serving $(SERVER)

# One deployment only: make deploy DEPLOY=train
deploy: install
	@$(BIN)/python -m flows.deploy $(DEPLOY)

format: dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis $(DEMO)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(BENCH_WORK)
