# cea-exchange: `make demo` and `make test` work from a fresh clone (Python >= 3.11 with venv, make).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A module's tests share what is dear to make, a running exchange or a compiled kernel: they go to one worker, in their order.
WORKERS := -n 2 --dist loadfile
# The tests start hundreds of processes: each reads what the first has made of the sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow bench bench-smoke lint serve soak clean

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,monitor]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/cea demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not soak" $(WORKERS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not soak" $(WORKERS)

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak -s

bench: $(STAMP)
	$(BIN)/python -m benchmarks

bench-smoke: $(STAMP)
	$(BIN)/python -m benchmarks --smoke

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: $(STAMP)
	@test -d market || $(BIN)/cea init market --yes
	$(BIN)/cea serve market

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis out
