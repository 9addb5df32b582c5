#!/usr/bin/env bash
# Prints the folder cargo builds into, as cargo itself resolves it (CARGO_TARGET_DIR, cargo's configuration, or target/).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
