# The doors of the workshop: each target sets up what it needs and does one thing.
# The work is done in scripts/; `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test lint chaos fuzz bench-engine bench-forecast bench-sources setup-test clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

build: ## the release binary (honours CARGO_TARGET_DIR)
	cargo build --release -p retainai

# Where the demo keeps its data.
DEMO_DATA ?= retainai-data/demo

demo: ## the whole product on this machine, over the stand-in exchanges (DEMO_ARGS="…" adds arguments)
	cargo build --profile ci -p retainai -p market-sim
	target="$$(scripts/target-dir.sh)"; \
	exec "$$target/ci/market-sim" demo --retainai "$$target/ci/retainai" --data-dir "$(DEMO_DATA)" $(DEMO_ARGS)

test: ## all set-up, then every test; the last line counts them
	@scripts/test.sh

lint: ## formatting, clippy, documentation, licences and sources of dependencies, spelling, shell scripts
	@scripts/lint.sh

# How long the fault run lasts, in seconds, and which faults it draws.
DURATION ?= 60
SEED ?= 1

chaos: ## the fault run: kills, stops, cuts off and starves the engine under load, and counts (DURATION=60 SEED=1, CHAOS_ARGS="…")
	@DURATION="$(DURATION)" SEED="$(SEED)" scripts/chaos.sh $(CHAOS_ARGS)

fuzz: ## each fuzz target for DURATION=60 seconds (TARGET=yahoo one alone, SEED=N repeats)
	@DURATION="$(DURATION)" SEED="$(if $(filter command line environment,$(origin SEED)),$(SEED))" TARGET="$(TARGET)" scripts/fuzz.sh

bench-engine: ## our engine beside bare apalis-redis, BullMQ and arq; writes bench/results/engine.json (BENCH_ARGS="--rounds 1 …")
	@bench/engine/run.sh $(BENCH_ARGS)

bench-forecast: ## training and answering beside PyTorch, Keras, candle and GARCH; writes bench/results/forecast.json (DATA=DIR, BENCH_ARGS="--rounds 1 …")
	@DATA="$(DATA)" bench/forecast/run.sh $(BENCH_ARGS)

bench-sources: ## pages to rows beside pandas and lxml; writes bench/results/sources.json (BENCH_ARGS="--rounds 1 …")
	@bench/sources/run.sh $(BENCH_ARGS)

setup-test: ## only the set-up of `make test`: Redis, PostgreSQL, cargo-nextest
	@scripts/setup.sh test

clean: ## remove everything built (your retainai-data stays)
	cargo clean
