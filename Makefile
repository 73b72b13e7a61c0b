# Everything below happens in a virtual environment of its own, `.venv`, which is made when
# there is none and brought up to date when pyproject.toml has changed. What it takes is
# Python >= 3.11, make and git; PYTHON=... names a Python to use.

VENV := .venv
BIN := $(VENV)/bin

# The first that is new enough. Each is run: a name on the PATH may be a shim to nothing.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1 \
	&& echo $$name && break; done)

# Not when the Python that it links to is gone, nor when its making was interrupted.
VENV_IS_USABLE := $(shell test -x $(BIN)/python && test -x $(BIN)/pip && echo yes)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

RECORDING ?= examples/recordings/barge_in.wav
SCRIPT ?= examples/demo.yaml
CONVERSATION ?= conversation.wav

.PHONY: help demo test check format clean venv
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/runtime.stamp ## Hold a spoken conversation and write it to conversation.wav
	@$(BIN)/pipecat-hydra talk "$(RECORDING)" "$(CONVERSATION)" --sample-tools \
		$(if $(strip $(value SMALLEST_API_KEY)),,--script "$(SCRIPT)")

test: $(VENV)/development.stamp ## Run the tests
	@$(BIN)/python -m pytest -n 4

check: $(VENV)/development.stamp ## Check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

format: $(VENV)/development.stamp ## Format the code and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .hypothesis .import_linter_cache .pytest_cache .ruff_cache

$(VENV)/development.stamp: $(VENV)/runtime.stamp
	@echo "Installing the development tools in $(VENV) ..."
	@$(PIP) install --group dev
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
