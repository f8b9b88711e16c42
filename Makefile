# Three commands: `make run`, `make test`, `make test-flink`. Each makes .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Building a network keeps one core busy; files are shared out between two processes, in the order
# of tests/conftest.py.
PARALLEL ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

# A stamp is written when its installation has ended well, and is out of date when setup.cfg changes.
RUN_READY := $(VENV)/.ready-run
TEST_READY := $(VENV)/.ready-test

# Called with the stamp's extras. What the tests install covers what a run needs.
define install
	@test -x $(BIN)/python || { echo "Making $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing into $(VENV); the first time takes a few minutes ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
	@touch $(2)
endef

.PHONY: run test test-flink soak lint format clean

run: $(RUN_READY)
	@$(BIN)/python -m pipeline run $(ARGS)

test: $(TEST_READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "not exhaustive and not flink" $(ARGS)
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL) -m "not exhaustive" tests/keras_resnet $(ARGS)

# The Beam parts on a Flink cluster of their own, on this machine: needs Java 17 and Maven, which fetches
# Beam's job server (300 MB with Flink, once, into ~/.cache/keras_resnet).
test-flink: $(TEST_READY)
	KERAS_RESNET_FLINK=1 $(BIN)/python -m pytest -m flink tests/flink $(ARGS)

# The long counts of the fault tests, and every member of the family at full size; run before a
# change that they guard is called done.
soak: $(TEST_READY)
	$(BIN)/python -m pytest -m "soak or exhaustive" --rounds 30 $(ARGS)

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(TEST_READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(TEST_READY): setup.cfg pyproject.toml
	$(call install,pipeline$(COMMA)kfp$(COMMA)test,$(TEST_READY) $(RUN_READY))

$(RUN_READY): setup.cfg pyproject.toml
	$(call install,pipeline,$(RUN_READY))

COMMA := ,
