# The targets call Python, so that everything works without make too:
#   python3 tools/check.py [quick | all] · python3 tools/docs.py · python3 tools/demo.py · python3 tools/setup_env.py
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help venv quick check check-all docs demo demo-fleet bench bench-full

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

venv: ## Make or refresh .venv (any Python >= 3.11 that is found)
	@$(PYTHON) tools/setup_env.py

quick: ## Static checks and the fast tests, for the loop; under a minute
	@$(PYTHON) tools/check.py quick

check: ## Everything: static checks, demo, all tests; the fast ones on every Python that is here
	@$(PYTHON) tools/check.py

check-all: ## All tests on every Python that is here, and with the lowest versions
	@$(PYTHON) tools/check.py all

docs: ## Build the documentation into site/, strictly: dead links fail
	@$(PYTHON) tools/docs.py

demo: ## Kill a census of the standard library half-way and watch it resume
	@$(PYTHON) tools/demo.py

demo-fleet: ## Kill workers, crash PostgreSQL and roll to new code: nothing lost, nothing doubled
	@$(PYTHON) tools/demo.py fleet

bench: venv ## The speed table, each figure beside the limit of this machine
	@.venv/bin/python -m bench

bench-full: venv ## The same with 1,000,000 executions in the store (some minutes, 2 GB)
	@.venv/bin/python -m bench --full
