# Two commands matter to a newcomer: `make demo` and `make test`. Each does all it needs.

BIN := .venv/bin
# Where the type checker, the linter and the formatter look.
CODE := peer protocol tests examples
# Set on the command line: ARGS="--once --json FILE"
ARGS ?=
# Files of results as benchmarks print them: RESULTS="/tmp/transfer.jsonl"
RESULTS ?=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-deep coverage bench bench-ingest bench-transfer bench-journal bench-matching bench-search performance lint format types imports lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.runtime ## Install what the node needs into .venv

setup-dev: .venv/.development ## Install what the tests need too

.venv/.runtime: .requirements/runtime.txt .requirements/install pyproject.toml
	@echo "Setting up .venv (once; a minute at most)"
	@.requirements/install runtime
	@touch $@

# The development set contains the runtime set.
.venv/.development: .requirements/development.txt .requirements/install pyproject.toml
	@echo "Setting up .venv for development (once; a minute at most)"
	@.requirements/install development
	@touch .venv/.runtime $@

# The benchmark set contains the development set.
.venv/.benchmark: .requirements/benchmark.txt .requirements/install pyproject.toml
	@echo "Adding to .venv what benchmarks are measured beside (once; a minute at most)"
	@.requirements/install benchmark
	@touch .venv/.runtime .venv/.development $@

demo: setup ## Three hospitals, one search, from pairing to report (ARGS="--once --json FILE")
	@$(BIN)/openpriors demo $(ARGS)

test: lint types imports ## Lint, types, import contracts, then every test (ARGS="-k name")
	$(BIN)/pytest -n 2 --dist loadscope $(ARGS)

test-deep: setup-dev ## The long tests too: more examples, longer simulations
	$(BIN)/pytest -n 2 -m "deep or not deep" --timeout 1800 --hypothesis-profile deep $(ARGS)

coverage: setup-dev ## Run the tests and report the lines and branches that none reached
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadscope $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: bench-ingest bench-transfer bench-journal bench-matching bench-search ## Every benchmark, one line of JSON for each result

bench-ingest: setup-dev ## Instances by every door, beside a copy and other receivers (ARGS="--share 0.1 --repeats 1")
	@$(BIN)/python -m tests.benchmarks.ingest $(ARGS)

bench-transfer: setup-dev ## Studies between nodes and to viewers, beside nginx and Orthanc (ARGS="--repeats 1")
	@$(BIN)/python -m tests.benchmarks.transfer $(ARGS)

bench-journal: setup-dev ## Following a journal, between real nodes (ARGS="--entries 100000 --repeats 1")
	@$(BIN)/python -m tests.benchmarks.journal $(ARGS)

bench-matching: .venv/.benchmark ## Who is found: FEBRL beside splink, a population of our own (ARGS="--size 100000")
	@$(BIN)/python -m tests.benchmarks.matching
	@$(BIN)/python -m tests.benchmarks.population $(ARGS)

performance: setup-dev ## Tables and picture of docs/explanation/performance.md (RESULTS="FILE ..." puts new ones in)
	@$(BIN)/python -m tests.benchmarks.report $(RESULTS)

bench-search: setup-dev ## A whole search, beside a fan-out to Orthancs (ARGS="--digests 20000 --origins 3 --repeats 1")
	@$(BIN)/python -m tests.benchmarks.search $(ARGS)

lint: setup-dev ## Check style and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: setup-dev ## Put style and format right
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

types: setup-dev ## Check types strictly
	$(BIN)/mypy

imports: setup-dev ## Check who may import whom
	$(BIN)/lint-imports --no-logo

lock: setup-dev ## Resolve the locked requirements anew
	.requirements/lock

clean: ## Remove everything that was made here
	rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
