# `make help` lists the targets. TORCH_INDEX=URL installs torch from another wheel index (say, the CPU one); JOBS=N tests
# with N processes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
TORCH_INDEX ?=
JOBS ?= 2
KILLS ?= 20
SEED ?= 1
SOAK ?= /tmp/protoformer-soak
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak lint format bench floor-plan settings docs clean clean-outputs

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(BIN)/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)"
endif
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP) ## a tiny BERT learns NLI from the built-in sample, a tiny Transformer to translate (about four and a half minutes on two cores, with the installation)
	$(BIN)/python train.py experiment=demo
	$(BIN)/python train.py experiment=demo_translation

test: lint ## lint, then the default suite: no network, no GPU
	$(PYTEST) -m "not slow"

test-all: lint ## also trained models and killed processes
	$(PYTEST)

soak: $(STAMP) ## KILLS=n signals and kills (SEED=s) of runs that are continued and compared bit for bit
	$(BIN)/python tests/soak/soak.py --kills $(KILLS) --seed $(SEED) --folder $(SOAK)

lint: $(STAMP) ## style, types, and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## speed and loss parity against transformers, on random weights and the sample
	$(BIN)/python benchmarks/glue_parity.py

floor-plan: $(STAMP) ## draw docs/images/floor-plan.svg from the imports of the package
	$(BIN)/python docs/draw_floor_plan.py

settings: $(STAMP) ## write docs/settings.md: every key with its type, default and meaning
	$(BIN)/protoformer settings --markdown docs/settings.md

$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

docs: $(DOCS_STAMP) ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove the environment, caches and the built site; runs in outputs/ stay
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

clean-outputs: ## remove outputs/: every run and its checkpoints
	rm -rf outputs
