#!/usr/bin/env bash
# Everything that can be found wrong without running the program. All checks run; the last lines name those that failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

setup_lint
locked=()
if [ -n "${CI:-}" ]; then locked=(--locked); fi
failures=()

check() {
  local what="$1"
  shift
  say "== $what"
  "$@" || failures+=("$what")
}

shell_scripts() { shellcheck --external-sources scripts/*.sh bench/*/*.sh .ci/run; }
documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --quiet --profile ci --workspace --no-deps --document-private-items "${locked[@]}"; }

check "formatting" cargo fmt --all --check
check "clippy" cargo clippy --workspace --all-targets --profile ci --keep-going "${locked[@]}" -- -D warnings
check "documentation" documentation
check "dependencies" cargo deny "${locked[@]}" --log-level error check --hide-inclusion-graph bans licenses sources
check "spelling" typos
if command -v shellcheck >/dev/null; then check "shell scripts" shell_scripts; else say "== shell scripts: left out, no shellcheck here"; fi

if [ "${#failures[@]}" -gt 0 ]; then
  printf 'lint failed: %s\n' "${failures[@]}"
  exit 1
fi
echo "lint: all clean"
