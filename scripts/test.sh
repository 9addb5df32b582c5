#!/usr/bin/env bash
# Every test: sets up, starts a private PostgreSQL and Redis, runs the tests, stops exactly those two.
# The last line is `N passed, N failed`, with `, N skipped` where tests are marked as ignored.
# Arguments go to `cargo nextest run`; with arguments the documentation's examples are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
# shellcheck source=scripts/servers.sh
source scripts/servers.sh

# Nobody's settings may leak in: a test must never reach a real installation.
for name in "${!RETAINAI_@}"; do
  case "$name" in RETAINAI_SHARED) ;; *) unset "$name" ;; esac
done
locked=()
if [ -n "${CI:-}" ]; then locked=(--locked); fi

setup_test
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start_servers

target="$(scripts/target-dir.sh)"
export RETAINAI_BIN_DIR="$target/ci"
export RETAINAI_TEST_REQUIRE_SERVERS=1
report="$target/nextest/default/junit.xml"
doc_log="$servers_dir/doctests.log"
passed=0 failed=0 skipped=0

# One build for programs and tests: apart, cargo would choose other features and build dependencies twice.
if ! cargo build --profile ci --workspace --bins --tests "${locked[@]}"; then
  say "the programs and their tests do not build"
  echo "0 passed, 1 failed"
  exit 1
fi

rm -f "$report"
status=0
cargo nextest run --profile default --cargo-profile ci --workspace --no-fail-fast "${locked[@]}" "$@" || status=$?
if [ -f "$report" ]; then
  # The report's first element carries the totals.
  totals="$(grep -m 1 -o '<testsuites [^>]*>' "$report")"
  total_of() { printf '%s' "$totals" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p"; }
  failed=$(($(total_of failures) + $(total_of errors)))
  passed=$(($(total_of tests) - failed))
fi
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
  say "cargo nextest ended with status $status"
  failed=1
fi

if [ "$#" -eq 0 ]; then
  skipped="$(cargo nextest list --profile default --cargo-profile ci --workspace "${locked[@]}" --message-format json --run-ignored only 2>/dev/null |
    grep -o '"ignored":true' | wc -l || true)"
  status=0
  cargo test --doc --profile ci --workspace "${locked[@]}" 2>&1 | tee "$doc_log" || status=$?
  sum_of() { sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$doc_log" | awk '{ n += $1 } END { print n + 0 }'; }
  passed=$((passed + $(sum_of passed)))
  doc_failed="$(sum_of failed)"
  skipped=$((skipped + $(sum_of ignored)))
  if [ "$status" -ne 0 ] && [ "$doc_failed" -eq 0 ]; then doc_failed=1; fi
  failed=$((failed + doc_failed))
fi

stop_servers
if [ "$((passed + failed))" -eq 0 ]; then say "no test ran"; fi
line="$passed passed, $failed failed"
if [ "$skipped" -gt 0 ]; then line="$line, $skipped skipped"; fi
printf '%s\n' "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
