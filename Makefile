PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q
WHEEL := build/wheel

.PHONY: quickstart test lint check test-wheel slow clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/lottery run quickstart --jobs auto

test: $(STAMP)
	$(BIN)/python $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint test

# The same tests on what users install: the wheel, from a copy of the repository that has no lottery/ to import instead.
test-wheel:
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet --upgrade pip
	$(WHEEL)/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(WHEEL)/venv/bin/python -m pip install --quiet "$$(ls $(WHEEL)/lottery-*.whl)[dev]"
	mkdir $(WHEEL)/tree
	git ls-files -z -- . ':!lottery' | tar --create --null --files-from - | tar --extract --directory $(WHEEL)/tree
	cd $(WHEEL)/tree && ../venv/bin/python $(PYTEST)

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -q

# What a GPU gains, measured in eight minutes (docs/speed.md); without a GPU, or with DRY=1, a dry run on the CPU.
# GPU_PYTHON=python takes an environment that is there, and installs nothing; STAGES="steps lockstep" runs some.
GPU_PYTHON ?= $(BIN)/python
.PHONY: gpu
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	$(GPU_PYTHON) -m benchmarks.gpu $(if $(DRY),--dry) $(if $(LOG),--log $(LOG)) $(STAGES)

# the documentation, in build/docs/index.html; a warning is an error
.PHONY: docs
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
