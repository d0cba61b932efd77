# The commands that people and CI run alike. `make help` lists them.
#
# PYTHON       the interpreter for the environment; the first of the supported ones that is found
# VENV         the environment's folder
# FRAMEWORKS   no: install neither PyTorch nor Keras, and run the compiler's own tests only

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
# Else each of some hundred processes would compile what it imports of ours.
unexport PYTHONDONTWRITEBYTECODE

SUPPORTED := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$name -c '$(SUPPORTED)' 2>/dev/null && echo $$name && break; done)
endif
VENV ?= .venv
FRAMEWORKS ?= yes
WORKERS ?= 2
# Arguments for pytest: make unit PYTEST="-k syntax"
PYTEST ?=

BIN := $(VENV)/bin
# -qq: errors only
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# No warnings: in between, and of references for good, something that they need is missing. Nothing
# is compiled: more than half of what is installed is never imported, and the rest once.
INSTALL := $(PIP) install --no-compile --no-warn-conflicts --constraint constraints.txt
SOURCES := resnet_spec backends tests benchmarks action playground/build.py playground/session.py docs/hooks.py
# What stands in compiled files word by word.
COPIED := backends/trainer backends/torch/trainer backends/keras/trainer backends/*/layers.py backends/*/functions.py

# What the compiler's own tests need; and all that `make test` does.
TOOLS := $(VENV)/.installed-test
ifeq ($(FRAMEWORKS),yes)
REFERENCES := torchvision timm segmentation-models-pytorch keras-hub huggingface_hub regex tokenizers requests
LARGEST := torch tensorflow-cpu jaxlib
STAMP := $(VENV)/.installed-reference
# Hugging Face's data sets, which only `make long` has, and what reading a local one imports.
DATASETS := datasets anyio dill h11 httpcore httpx multiprocess pandas pyarrow xxhash
LONG := $(VENV)/.installed-long
PYTEST_FRAMEWORKS := --require-frameworks
MYPY_FRAMEWORKS :=
else
STAMP := $(TOOLS)
LONG := $(TOOLS)
PYTEST_FRAMEWORKS :=
# To mypy all of a framework that is not installed is Any.
MYPY_FRAMEWORKS := --allow-subclassing-any --no-warn-return-any --no-warn-unused-ignores
endif

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

.PHONY: compile
compile: $(VENV)/.installed  ## compile all that [tool.resnet-spec] in pyproject.toml names
	$(BIN)/resnet-spec compile

.PHONY: test
test:  ## everything that must hold before a change goes in
	@# The frameworks install, on one core, beside what needs none.
	+$(MAKE) --no-print-directory -j$(WORKERS) --output-sync=target $(STAMP) lint check wheel modules types
	+$(MAKE) --no-print-directory unit REST="--ignore tests/unit"

# What `make unit` leaves to other targets.
REST ?=

.PHONY: lint
lint: $(TOOLS)  ## style, of our code by our rules and of compiled code by ruff's defaults
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --quiet --check $(SOURCES)
	$(BIN)/lint-imports --no-logo --cache-dir .mypy_cache/imports
	$(BIN)/zizmor --offline --no-progress --quiet --min-severity medium .
	@# From within, as the trainers run: the files beside one another are one project.
	for backend in generated/torch generated/keras generated/flax; do \
		(cd $$backend && $(abspath $(BIN))/ruff check --quiet --isolated .) || exit 1; done
	$(BIN)/ruff format --quiet --check --isolated generated $(COPIED)
	$(BIN)/ruff check --quiet --isolated --config 'src = [".", "backends/*/trainer", "backends/trainer"]' $(COPIED)

TYPED := tests:tests/security:tests/importing:tests/consumers:tests/support:tests/drawing:tests/report:tests/playground:playground:tests/programs:tests/published:tests/trainer:tests/docs:tests/compare:tests/sweep:benchmarks
MYPY := $(BIN)/mypy --cache-dir .mypy_cache
.PHONY: types types-sources types-torch types-flax
types: types-sources  ## types of the compiler, the backends and, with frameworks, the compiled PyTorch and Flax
types-sources: $(STAMP)
	MYPYPATH=$(TYPED) $(MYPY) $(MYPY_FRAMEWORKS) \
		--package resnet_spec --module conftest --module reference --module check_wheel \
		--module zoo_table --module zoo_measure --module startup --module variants --module zoo --module inference \
		--module training --module loading --module imports --module gpu --module wheels --module flax_resnet --module consumers --module fuzz --module fuzz_readers --module shrink --package standins \
		--module picture --module recount --module test_draw --module test_pictures --module test_planted --module test_any_block \
		--module html_page --module test_report --module test_preview --module browser --module test_in_browser \
		--module scripts --module test_scripts --module test_playground --module build --module session \
		--module regression_cases --module test_regressions --module test_random_programs \
		--module test_planted_in_specialisation --module test_planted_in_lowering \
		--module known_pairs --module test_known_pairs --module test_planted_in_comparisons --module test_proofs \
		--module test_diff --module test_revisions --module test_sweep \
		--module networks --module test_round_trip --module test_import --module test_foreign --module test_structure \
		--module test_keras --module test_keras_files --module test_untrained --module test_odd_models --module odd_models --module test_own_blocks --module test_shortcuts --module test_training --module test_sizes --module test_later_checkpoints
ifeq ($(FRAMEWORKS),yes)
types: types-torch types-flax
types-torch: $(STAMP)
	@# What a module gives is Any to PyTorch itself.
	$(MYPY)/torch --config-file= --strict --no-warn-return-any generated/torch
types-flax: $(STAMP)
	@# Flax gives no types to `nnx.Module.train`, which `freeze_until` needs.
	$(MYPY)/flax --config-file= --strict --no-warn-return-any --allow-untyped-calls generated/flax
endif

.PHONY: check
check: $(TOOLS)  ## our specs are valid, and generated/ is what they compile to
	$(BIN)/resnet-spec check specs examples
	$(BIN)/resnet-spec compile --check --diff

.PHONY: unit
unit: $(STAMP)  ## the tests
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal --durations 25 $(PYTEST_FRAMEWORKS) $(REST) $(PYTEST)

.PHONY: modules
modules: $(TOOLS)  ## the tests of single modules alone, which need no framework
	$(BIN)/pytest -q tests/unit $(PYTEST)

.PHONY: long
long: $(LONG)  ## the slow tests too: 10,000 examples for each property, 100,000 random networks, large families
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_FRAMEWORKS) \
		--slow --hypothesis-profile=long $(PYTEST)

.PHONY: browser
browser: $(VENV)/.installed-browser  ## pages in a real Chromium, which must be installed
	$(BIN)/pytest -q --slow tests/report/test_in_browser.py tests/playground $(PYTEST)

SECONDS ?= 60
.PHONY: fuzz
fuzz: $(STAMP)  ## broken data for all that reads data of strangers, on Linux: make fuzz SECONDS=600
	PYTHONPATH=tests/support:. $(BIN)/python tests/security/fuzz_readers.py --seconds $(SECONDS)

.PHONY: goldens
goldens: $(STAMP)  ## write the golden files anew; read the difference before committing it
	$(BIN)/pytest -q $(PYTEST_FRAMEWORKS) --update-goldens $(PYTEST)

.PHONY: coverage
coverage: $(STAMP)  ## which branches of the compiler no test takes
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_FRAMEWORKS) \
		--cov --cov-report=term $(PYTEST)

.PHONY: bench
bench: $(STAMP)  ## speed beside a yardstick of the same run, as ratios
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/zoo.py
	$(BIN)/python benchmarks/variants.py
ifeq ($(FRAMEWORKS),yes)
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/training.py torch
	$(BIN)/python benchmarks/training.py tensorflow
	$(BIN)/python benchmarks/training.py jax
	$(BIN)/python benchmarks/training.py flax
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/loading.py --workers 2
endif

# Takes hours when everything has changed. NAMES="resnet18 vgg*": these networks alone.
.PHONY: zoo
zoo: $(STAMP)  ## measure the networks whose output has changed, and renew docs/zoo.md
	$(BIN)/python tests/published/zoo_table.py $(NAMES)

# Built away from the working tree, so that no leftover of an older build gets in; the source
# distribution first, so that what it lacks is missed.
.PHONY: wheel
wheel: $(TOOLS)  ## build a wheel, install it alone and compile from an empty folder
	$(BIN)/python tests/check_wheel.py

.PHONY: site
site: $(VENV)/.installed-site  ## the documentation as pages in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Node's packages and Python's wheels come by their hashes. `make site playground` puts it beside the docs.
.PHONY: playground
playground: $(VENV)/.installed  ## the page on which specs are written, in build/playground; needs npm
	$(BIN)/python playground/build.py build/playground
	@if [ -d build/site ]; then rm -rf build/site/playground && cp -r build/playground build/site/; fi

.PHONY: clean
clean:  ## remove the environment, builds and caches
	rm -rf $(VENV) build dist playground/node_modules *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

# Each stamp is newer than what it was installed from, so that an environment is made once.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.14 found; set PYTHON" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-site: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable ".[site]"
	@touch $@

$(VENV)/.installed-browser: pyproject.toml constraints.txt | $(STAMP)
	$(INSTALL) --editable ".[browser]"
	@touch $@

# Its newest version that takes our huggingface_hub asks for an older fsspec.
$(VENV)/.installed-long: pyproject.toml constraints.txt | $(STAMP)
	$(INSTALL) --no-deps $(DATASETS)
	@touch $@

$(TOOLS): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable ".[test]"
	@touch $(VENV)/.installed $@

# Beside the tools: none of these is among them, nor asked for what it needs.
$(VENV)/.installed-largest: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --no-deps $(LARGEST) $(REFERENCES)
	@touch $@

$(VENV)/.installed-reference: $(TOOLS) $(VENV)/.installed-largest
	$(INSTALL) --editable ".[test,reference]"
	@touch $@
