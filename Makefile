# Two commands are enough: `make run` and `make test`. Each sets up what it needs by itself, and nothing twice.
SHELL := /bin/sh
# `make run` is for the platform on this machine, whatever Nomad a shell points to.
unexport NOMAD_ADDR
PYTHON ?= $(firstword $(shell command -v python3 python3.13 python3.12 python3.11 2>/dev/null) python3)
MLOPS := .venv/bin/mlops
SCRIPTS = $(filter-out %.py %__pycache__,$(wildcard tools/ci/*))
IMAGES_WITH_TESTS = $(patsubst images/%/tests,test/%,$(wildcard images/*/tests))

.DEFAULT_GOAL := help
.PHONY: help run test test-all check bench setup lock clean

help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

run: setup ## Train, store, verify and list model versions on this machine
	$(MLOPS) up
	$(MLOPS) run sales-close-prediction -p model_version=1 --runs 2 --idempotency-token make-run
	$(MLOPS) run sales-close-prediction -p model_version=2 --idempotency-token make-run
	uri=$$($(MLOPS) data push feed:areas.csv feed:customers.csv --json | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["uri"])') && \
	$(MLOPS) run model-refit -p model_version=1 -p data_uri="$$uri" --idempotency-token make-run
	$(MLOPS) models list
	@echo
	@echo 'Next, for example:'
	@echo '  $(MLOPS) run sales-close-prediction -p model_version=3 -p epochs=50'
	@echo '  $(MLOPS) runs list'
	@echo '  $(MLOPS) models show VERSION'
	@echo '  $(MLOPS) models promote VERSION champion'
	@echo '  $(MLOPS) down'

test: check ## Run the checks and the fast tests; PYTEST_ARGS are handed on
	$(call run_tests,-m "not whole")

test-all: check ## Run the checks and all tests, those that are marked whole too
	$(call run_tests,)

# $(1) chooses the tests.
define run_tests
	@$(MAKE) --no-print-directory --jobs 2 --output-sync CHOSEN='$(1)' $(IMAGES_WITH_TESTS)
	.venv/bin/python -m pytest $(1) --numprocesses auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
endef

.PHONY: $(IMAGES_WITH_TESTS)
$(IMAGES_WITH_TESTS): test/%:
	@if [ -e images/$*/package.json ]; then \
	  echo 'npm test --prefix images/$*'; npm test --silent --prefix images/$*; \
	else .venv/bin/python -m pytest -q $(CHOSEN) images/$*/tests; fi

check: setup ## Check style, types and syntax
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright
	.venv/bin/lint-imports
	@git ls-files 'images/*.js' 'images/*.mjs' 'tests/*.mjs' | while read -r file; do node --check "$$file" || exit 1; done
	sh -n tools/lock && bash -n .ci/run
	.venv/bin/shellcheck tools/lock .ci/run $(SCRIPTS)
	.venv/bin/zizmor --quiet --offline .github

bench: setup ## Measure, in one run, what the platform costs
	.venv/bin/python -m tests.bench

setup: ## Install what is missing; all others but `clean` do it by themselves
	@$(PYTHON) tools/setup.py

lock: setup ## Renew the hash locks; LOCK_ARGS=--upgrade takes the newest versions
	tools/lock $(LOCK_ARGS)

clean: ## Stop the platform, and remove all that was installed or stored
	-@if [ -x $(MLOPS) ]; then $(MLOPS) down; fi
	rm -rf .venv .cache .state .pytest_cache .ruff_cache images/*/node_modules images/*/.venv images/*/target
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
