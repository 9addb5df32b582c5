#!/usr/bin/env bash
# `make fuzz`: every fuzz target for DURATION seconds, one after the other; each says how many inputs it saw. TARGET=yahoo runs one, SEED repeats.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RETAINAI_TEST_FUZZ_S="${DURATION:-60}" RETAINAI_TEST_FUZZ_SEED="${SEED:-$(date +%s)}"
cargo test --profile ci -p workers --test it "fuzz::${TARGET:-}" -- --nocapture --test-threads 1
