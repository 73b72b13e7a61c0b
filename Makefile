# Everything below happens in a virtual environment of its own, `.venv`, which is made when
# there is none and brought up to date when pyproject.toml has changed. What it takes is
# Python >= 3.11, make and git; PYTHON=... names a Python to use.

VENV := .venv
BIN := $(VENV)/bin

# The first that is new enough. Each is run: a name on the PATH may be a shim to nothing.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1 \
	&& echo $$name && break; done)

# Not when the Python that it links to is gone or another one, when it was moved (its commands
# name the place that they were installed in), nor when its making was interrupted.
VENV_IS_USABLE := $(shell $(BIN)/pip --version >/dev/null 2>&1 && echo yes)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

RECORDING ?= examples/recordings/barge_in.wav
SCRIPT ?= examples/demo.yaml
CONVERSATION ?= conversation.wav

WEB_HOST ?= 127.0.0.1
WEB_PORT ?= 7860

SEED ?= 1
MINUTES ?= 1

.PHONY: help demo web test test-uvloop test-realtime test-browser chaos random soak mutants
.PHONY: bench bench-full docs check release-check format clean venv
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/runtime.stamp ## Hold a spoken conversation and write it to conversation.wav
	@$(BIN)/pipecat-hydra talk "$(RECORDING)" "$(CONVERSATION)" --sample-tools \
		$(if $(strip $(value SMALLEST_API_KEY)),,--script "$(SCRIPT)")

web: $(VENV)/web.stamp ## Serve a page to talk to it in a browser
	@$(BIN)/pipecat-hydra web --host "$(WEB_HOST)" --port "$(WEB_PORT)"

# A worker for each core: these tests wait for nothing but computing.
test: $(VENV)/development.stamp ## Run the tests that need no clock, and list the slowest ten
	@$(BIN)/python -m pytest -n auto -m "not realtime" --ignore=tests/browser --durations=10

# The tests of `test` once more, on the event loop that most telephone bots run on.
test-uvloop: $(VENV)/development.stamp ## Run the tests that need no clock on uvloop
	@$(BIN)/python -m pytest -n auto -m "not realtime" --ignore=tests/browser --uvloop

# By pairs. A process or a WebRTC peer that starts on a busy machine takes its time.
test-realtime: $(VENV)/development.stamp ## Run the tests of processes, threads and WebRTC peers
	@$(BIN)/python -m pytest -n 2 -m realtime --ignore=tests/browser --durations=10

# One at a time: they listen to what is heard while it is heard.
test-browser: $(VENV)/browser.stamp ## Run the tests of the page in a browser; needs Chromium
	@$(BIN)/python -m pytest tests/browser

# Each process that holds calls would tell of the version of Pipecat.
chaos: $(VENV)/development.stamp ## Hold calls that go wrong at random: SEED=1 MINUTES=1, or CALLS=200
	@PYTHONPATH=tests LOGURU_LEVEL=WARNING $(BIN)/python -m chaos --seed "$(SEED)" \
		$(if $(CALLS),--calls "$(CALLS)",--minutes "$(MINUTES)") \
		$(if $(JOBS),--jobs "$(JOBS)") $(if $(KEEP),--keep "$(KEEP)")

random: $(VENV)/development.stamp ## Hold calls whose application does anything: SEED=1 CALLS=500
	@PYTHONPATH=tests LOGURU_LEVEL=WARNING $(BIN)/python -m application --seed "$(SEED)" \
		--calls "$(or $(CALLS),500)" \
		$(if $(JOBS),--jobs "$(JOBS)") $(if $(KEEP),--keep "$(KEEP)")

soak: $(VENV)/development.stamp ## Hold calls one after the other, CALLS=1000, and very long ones
	@PYTHONPATH=tests LOGURU_LEVEL=WARNING $(BIN)/python -m chaos.soak \
		--calls "$(or $(CALLS),1000)"

mutants: $(VENV)/development.stamp ## See which faults in the pure code the tests find: SEED=1 SAMPLE=260
	@PYTHONPATH=tests $(BIN)/python -m mutation --seed "$(SEED)" --sample "$(or $(SAMPLE),260)" \
		$(if $(KEEP),--keep "$(KEEP)")

# They want the machine for themselves.
bench: $(VENV)/development.stamp ## Measure the service beside Pipecat's own; AGAINST=../other-checkout
	@$(BIN)/python -m benchmarks $(if $(AGAINST),--against "$(AGAINST)")

bench-full: $(VENV)/development.stamp ## The same with up to 100 sessions, all peers and all rows
	@$(BIN)/python -m benchmarks --full $(if $(AGAINST),--against "$(AGAINST)")

docs: $(VENV)/docs.stamp ## Build the site of the documents in site/, without the network
	@LOGURU_LEVEL=WARNING $(BIN)/python docs/tools/generate.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean --quiet
	@echo "The site is in site/index.html."

check: $(VENV)/development.stamp ## Check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	@echo "Checking that each public name has its type written down ..."
	@PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)" \
		$(BIN)/basedpyright --ignoreexternal --verifytypes pipecat_hydra > $(VENV)/types.txt \
		|| { grep -B 1 "error: " $(VENV)/types.txt; exit 1; }
	$(BIN)/lint-imports --no-logo

# Takes some minutes, and what it installs from the index.
release-check: $(VENV)/release.stamp ## Check what a release would give to users; TAG=v1.2.3
	@$(BIN)/python -m tools.release_check $(if $(TAG),--tag "$(TAG)")

format: $(VENV)/development.stamp ## Format the code and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) site .hypothesis .import_linter_cache .pytest_cache .ruff_cache

$(VENV)/development.stamp: $(VENV)/runtime.stamp
	@echo "Installing the development tools in $(VENV) ..."
	@$(PIP) install --editable ".[web]" --group dev
	@touch $@

$(VENV)/browser.stamp: $(VENV)/development.stamp
	@$(PIP) install --group browser
	@touch $@

$(VENV)/release.stamp: $(VENV)/development.stamp
	@echo "Installing what checks a release in $(VENV) ..."
	@$(PIP) install --group release
	@touch $@

$(VENV)/docs.stamp: $(VENV)/runtime.stamp
	@echo "Installing what builds the documents in $(VENV) ..."
	@$(PIP) install --editable ".[web]" --group docs
	@touch $@

$(VENV)/web.stamp: $(VENV)/runtime.stamp
	@echo "Installing what the page needs in $(VENV) ..."
	@$(PIP) install --editable ".[web]"
	@touch $@

$(VENV)/runtime.stamp: pyproject.toml $(if $(VENV_IS_USABLE),,venv)
	@echo "Installing pipecat-hydra in $(VENV); the first time, this takes a minute ..."
	@$(PIP) install "pip>=25.1"
	@$(PIP) install --editable .
	@touch $@

venv:
	@test -n "$(PYTHON)" || { \
		echo "No Python >= 3.11 found. Install one, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "$(PYTHON) does not run, or is older than Python 3.11." >&2; \
		exit 1; }
	@"$(PYTHON)" -c "import ensurepip, venv" || { \
		echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu," \
			"install python3-venv." >&2; \
		exit 1; }
	@echo "Making the virtual environment $(VENV) with $(PYTHON) ..."
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
