#!/usr/bin/env bash
# The fault run: sets up, builds the driver and its nodes, and runs them. DURATION (seconds) and SEED come from the environment; arguments
# go to the driver. The last line is the result; exit 1 if anything was lost, done twice or left lying.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

setup_servers
locked=()
if [ -n "${CI:-}" ]; then locked=(--locked); fi
cargo build --profile ci -p chaos --bins "${locked[@]}" >&2
target="$(scripts/target-dir.sh)"
exec "$target/ci/chaos" --duration "${DURATION:-60}" --seed "${SEED:-1}" --logs "$target/chaos" "$@"
