# Everything runs in a virtual environment of its own; nothing is installed outside this folder.
#
# torch comes first and with an exact pin: nothing after it may pull another one. On a machine without GPU the
# CPU build is smaller:  make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# Another torch beside it:  make test VENV=.venv214 TORCH=torch==2.14.1

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
PIP_FLAGS ?=
PYTEST_FLAGS ?=
TEST_JOBS ?= 2
FUZZ_SECONDS ?= 600
SHUTDOWNS ?= 1000
SANITIZE_FLAGS ?=
NEWEST_TORCH ?=
FAULTS ?=
CULPRITS ?= 0,1,2
FAULTS_DIR ?= build/faults
DEMO ?= examples/train_digits.py

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet $(PIP_FLAGS)
CODE := otel_netmon tests benchmarks examples docs dashboards

.PHONY: demo test native sanitize test-trainers e2e chaos audit newest lab faults fuzz lint bench docs build clean

demo: $(VENV)/.installed-demo
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 otel-netmon run -- torchrun --standalone --nproc-per-node 4 $(DEMO)

# Much of it waits for servers, timers and other processes. A file's tests stay together, for they share what is
# slow to start; and in the order of the folders, which has the long files first.
# Compiled first, because where PYTHONDONTWRITEBYTECODE is set each of some hundred processes would do that anew.
test: $(VENV)/.installed-dev
	$(BIN)/python -m compileall -q otel_netmon
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

# The native capture, for a torch that has hooks: make native VENV=.venv214 TORCH=torch==2.14.1. Then `make test` with
# the same variables tests it too.
native: $(VENV)/.installed-dev
	$(INSTALL) ninja
	$(BIN)/otel-netmon build

sanitize: native
	PATH="$(BIN):$$PATH" $(BIN)/python -m tests.native.sanitize build/sanitize $(SHUTDOWNS) $(SANITIZE_FLAGS)

# On the native capture where `make native` has built it for the same TORCH and PYTHON.
test-trainers: $(VENV)-trainers/.installed
	$(abspath $(VENV))-trainers/bin/python -m pytest tests/trainers $(PYTEST_FLAGS)

e2e: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/e2e $(PYTEST_FLAGS)

chaos: $(VENV)/.installed-dev
	TEST_OUTAGE=60 TEST_EVENTS=1e7 $(BIN)/python -m pytest tests -m row $(PYTEST_FLAGS)

audit: $(VENV)/.installed-demo
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv-audit/bin/pip-audit --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" --skip-editable

newest:
	PYTHON="$(PYTHON)" PIP_FLAGS="$(PIP_FLAGS)" NEWEST_TORCH="$(NEWEST_TORCH)" .ci/newest

lab: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/lab $(PYTEST_FLAGS)

# Real trainings with one fault each, and how the diagnosis fares: as root, some 90 minutes on two cores. Runs that are
# there are kept.  make faults FAULTS=straggler,rate_up CULPRITS=2 FAULTS_DIR=build/faults
# Once more without running them:  .venv/bin/python -m tests.faults.evaluate build/faults
faults: $(VENV)/.installed-dev
	FAULTS="$(FAULTS)" CULPRITS="$(CULPRITS)" FAULTS_DIR="$(FAULTS_DIR)" $(BIN)/python -m tests.faults

fuzz: .venv-fuzz/.installed
	.venv-fuzz/bin/python tests/fuzz/parsers.py -max_total_time=$(FUZZ_SECONDS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	PATH="$(BIN):$$PATH" $(BIN)/python -m benchmarks

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/make_data.py
	$(BIN)/python -m dashboards.make_dashboards

build: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) $(VENV)-trainers .venv-fuzz .venv-audit .venv-newest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps make a second call quick. A changed pyproject.toml installs again; torch stays.

$(VENV)/.installed-torch:
	$(PYTHON) -m venv $(VENV)
	@echo "Installing $(TORCH) into $(VENV): this takes a while the first time."
	$(INSTALL) "$(TORCH)"
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.installed-torch pyproject.toml
	$(INSTALL) -e . "scikit-learn>=1.4"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-demo pyproject.toml
	$(INSTALL) -e ".[dev]"
	@touch $@

.venv-fuzz/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e . atheris
	touch $@

$(VENV)-trainers/.installed: tests/trainers/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) "$(TORCH)"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e . pytest pytest-timeout -r tests/trainers/requirements.txt
	@touch $@
