# Every target runs inside .venv and makes it first if it is missing, or if pyproject.toml or requirements.lock changed.
# Paths are relative throughout, so that the checkout may stand in a folder whose name has spaces.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak clean

help:
	@echo "make demo    run the example, examples/demo"
	@echo "make test    run the tests"
	@echo "make check   lint, formatting, types, and which module may import which"
	@echo "make bench   run the benchmarks"
	@echo "make soak    run the long tests"
	@echo "make clean   remove .venv, caches and build output"
	@echo
	@echo "Needs Python 3.11 or newer; to choose one: make test PYTHON=python3.12"

demo: $(STAMP)
	@$(BIN)/python examples/demo/run.py

test: $(STAMP)
	@$(BIN)/pytest -n auto

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

soak: $(STAMP)
	@$(BIN)/pytest -n auto -m soak

clean:
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# On a terminal pip shows its progress; elsewhere only what goes wrong.
PIP_INSTALL = if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
    $(BIN)/python -m pip install --no-input --disable-pip-version-check $$quiet

$(STAMP): pyproject.toml requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "error: $(PYTHON) was not found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: Python 3.11 or newer is needed; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." \
	        "Name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: $(PYTHON) cannot make virtual environments." \
	        "On Debian or Ubuntu: apt install python3-venv; on other systems install Python's venv and ensurepip" >&2; exit 1; }
	@echo "[1/3] Making .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear .venv
	@echo "[2/3] Installing the pinned dependencies from requirements.lock"
	@$(PIP_INSTALL) -r requirements.lock
	@echo "[3/3] Installing tallystick itself, editable"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
