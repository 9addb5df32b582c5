#!/usr/bin/env bash
# `make bench-engine`: brings everything that is measured, starts a PostgreSQL and a Redis of its own, measures, stops exactly these two.
# Arguments go to measure.py (`--help` lists them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
# shellcheck source=scripts/servers.sh
source scripts/servers.sh

peers=bench/engine/peers
target="$(scripts/target-dir.sh)"
python="$target/bench-engine/bin/python"

set_up_node() {
  if ! command -v npm >/dev/null; then debian_install nodejs npm; fi
  if ! cmp -s "$peers/package-lock.json" "$peers/node_modules/.installed-from"; then
    say "installing BullMQ into $peers/node_modules"
    # Not `npm ci`: it refuses a lock file that leaves out the native add-ons of machines that the registry has none for.
    (cd "$peers" && npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel error) >&2
    cp "$peers/package-lock.json" "$peers/node_modules/.installed-from"
  fi
}

set_up_python() {
  if cmp -s "$peers/requirements.txt" "$target/bench-engine/requirements.txt"; then return; fi
  say "installing arq into $target/bench-engine"
  rm -rf "$target/bench-engine"
  if ! python3 -m venv "$target/bench-engine" >/dev/null 2>&1; then
    rm -rf "$target/bench-engine"
    debian_install python3 python3-venv
    python3 -m venv "$target/bench-engine" || die "python3 cannot make a virtual environment"
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$peers/requirements.txt" ||
    die "the packages of $peers/requirements.txt could not be installed"
  cp "$peers/requirements.txt" "$target/bench-engine/requirements.txt"
}

# Nobody's settings may leak in.
for name in "${!RETAINAI_@}"; do unset "$name"; done
setup_test
set_up_node
set_up_python
# BENCH_PROFILE=release measures what users run; the default saves building every dependency once more.
profile="${BENCH_PROFILE:-ci}"
cargo build --profile "$profile" -p bench-engine --bins
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start_servers

# shellcheck disable=SC2154 # servers.sh sets them
python3 bench/engine/measure.py --profile "$profile" --bin-dir "$target/$profile" --python "$python" --peers "$peers" \
  --postgres "$RETAINAI_TEST_POSTGRES_URL" --psql "$(postgres_bin)/psql" --postgres-pid "$(head -n 1 "$postgres_data/postmaster.pid")" \
  --redis "$RETAINAI_TEST_REDIS_URL" --redis-pid "$redis_pid" --work-dir "$servers_dir" "$@"
