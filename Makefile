# Everything a fresh machine needs: `make run`, `make test`, `make check`. Set-up happens on its own and only once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TARGET ?= mlp:depth=30,width=128,act=tanh,init=torch-default
DATA ?= digits

.PHONY: run test check bench format clean

run: $(READY)
	$(BIN)/firstlight doctor "$(TARGET)" --data "$(DATA)" --output report.html --force

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -q -rs  # a worker a core; threads inside operators would only wait

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/firstlight bench

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis report.html
