# The commands of this repository. `make help` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TOOLS  := build/tools
UV     := build/bin/uv
READY  := $(VENV)/made-from-lock
EXPORT := $(UV) export -q --format requirements-txt --no-default-groups --no-emit-project --no-annotate
HEADER := \# Made by `make lock` (uv export): every version and hash. Install with `uv pip sync`.

# The test bed takes uv from PATH; without it, pip does the same more slowly.
export PATH := $(CURDIR)/build/bin:$(PATH)

# Real pods need root on Linux, or a cluster that somebody else made.
NODE := $(if $(filter 0,$(shell id -u))$(filter 1,$(PODIUM_TEST_USE_KUBECONFIG)),yes)
KINDS := $(wildcard tests/e2e tests/integration tests/faults tests/unit)
# Most tests wait for a server most of the time, so there is one worker more than CI has cores.
WORKERS ?= 3
SPREAD := -n $(WORKERS) --no-loadscope-reorder

.PHONY: help
help:  ## list these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

.PHONY: demo demo-down
demo:  ## four versions of a model on a real cluster: promoted, refused, rolled back
	bash demo/run up

demo-down:  ## remove all that the demo made; caches stay
	bash demo/run down

.PHONY: test test-fast test-unit test-integration test-e2e
# The oracle runs by itself: what Hypothesis draws depends on which modules are imported beside it.
test: $(READY) oracle  ## every test: unit, integration, and e2e where this user is root
	@echo "Runs:$(foreach kind,$(KINDS), $(notdir $(kind)))$(if $(NODE),, (but none that needs a real node: not root))"
	$(BIN)/pytest -v --durations=15 $(SPREAD) $(if $(NODE),,-m "not node") $(KINDS)

test-fast: test-unit  ## the tests that take seconds

test-unit: $(READY)  ## the engine's tables and everything else without a server
	$(BIN)/pytest -q tests/unit

test-integration: $(READY)  ## a real API server, real MLflow servers
	$(BIN)/pytest -v --durations=15 tests/integration

test-e2e: $(READY)  ## real pods on a real node; root, or PODIUM_TEST_USE_KUBECONFIG=1
	$(BIN)/pytest -v --durations=15 tests/e2e

.PHONY: oracle mutants
oracle: STEPS ?= 20000
oracle: $(READY)  ## the engine against an oracle; STEPS=1000000 SEED=7 for other steps, and more
	PODIUM_ORACLE_STEPS=$(STEPS) PODIUM_ORACLE_SEED=$(SEED) $(BIN)/pytest -q tests/unit/engine/test_oracle.py

# mutmut has an environment of its own: nothing else needs it or what it brings along.
mutants: $(READY)  ## mutants of the engine and the gates; hours. MODULES="engine.blame gates", or SAMPLE=600
	test -x build/mutmut/bin/mutmut || { $(UV) venv -q --clear --python $(BIN)/python build/mutmut && \
	  $(UV) pip install -q --python build/mutmut/bin/python -c requirements/dev.lock mutmut==3.8.1 \
	  pytest pytest-asyncio pytest-timeout aiohttp msgspec tenacity cryptography; }
	build/mutmut/bin/python tests/mutants/run.py $(if $(SAMPLE),--sample $(SAMPLE)) $(MODULES)
	$(BIN)/python tests/mutants/score.py --survivors

.PHONY: faults
faults: $(READY)  ## every call broken (hours); N=10000 random schedules; SEED=123: that one again
	$(BIN)/python -m tests.faults$(if $(SEED),.schedules --seed $(SEED) --shrink,$(if $(N),.schedules --count $(N))) $(ARGS)

.PHONY: failovers
failovers: $(READY)  ## N=100 failovers of two operators while promotions are under way (minutes)
	$(BIN)/python -m tests.faults.failovers $(if $(N),--number $(N)) $(ARGS)

.PHONY: mutations soak
mutations: N ?= 300
mutations: SEED ?= 1
mutations: $(READY)  ## N=300 changes from the schemas of SEED=1, and 150 more: refused with a sentence, or taken well
	$(BIN)/python -m tests.faults.mutated -n $(N) --seed $(SEED) $(ARGS)

soak: $(READY)  ## half an hour of churn and restarts; memory flat, ledger whole. ARGS="--minutes 5"
	$(BIN)/python -m tests.faults.soak $(ARGS)

.PHONY: scale
scale: $(READY)  ## what Podium costs with 1,000 promotions, 40 minutes; with 10,000: ARGS="10000 --poll 60"
	$(BIN)/python -m benchmarks.scale $(ARGS)

.PHONY: check lint format types
check: lint types test-fast  ## lint, types and the fast tests: what to run before a commit

lint: $(READY)  ## ruff, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY)  ## let ruff format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

.PHONY: venv lock clean
venv: $(READY)  ## .venv with exactly what requirements/dev.lock says

$(READY): requirements/dev.lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(UV) pip sync -q --python $(BIN)/python requirements/dev.lock
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	touch $@

# uv in an environment of its own: Debian's Python takes no packages, and a sync removes
# from .venv whatever the lock does not name.
$(UV):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(TOOLS)/bin/pip || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q uv
	mkdir -p $(@D)
	ln -sf ../tools/bin/uv $@

lock: | $(UV)  ## write requirements/*.lock anew, with the newest versions that pyproject.toml allows
	$(UV) lock -q --upgrade
	$(EXPORT) | sed '1,2d' > build/operator.lock
	$(EXPORT) --all-groups | sed '1,2d' > build/dev.lock
	for name in operator dev; do { echo '$(HEADER)'; cat build/$$name.lock; } > requirements/$$name.lock; done
	rm build/operator.lock build/dev.lock

clean:  ## remove .venv, build/ and what tools keep here; `make demo-down` removes clusters
	rm -rf $(VENV) build dist operator/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
