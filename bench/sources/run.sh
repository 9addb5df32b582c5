#!/usr/bin/env bash
# `make bench-sources`: brings pandas and lxml, writes the pages, and measures. Arguments go to measure.py (`--help` lists them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

peers=bench/sources/peers
target="$(scripts/target-dir.sh)"
environment="$target/bench-sources-python"
python="$environment/bin/python"

set_up_python() {
  if cmp -s "$peers/requirements.txt" "$environment/requirements.txt"; then return; fi
  say "installing pandas and lxml into $environment (once)"
  rm -rf "$environment"
  if ! python3 -m venv "$environment" >/dev/null 2>&1; then
    rm -rf "$environment"
    debian_install python3 python3-venv
    python3 -m venv "$environment" || die "python3 cannot make a virtual environment"
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes --only-binary :all: -r "$peers/requirements.txt" ||
    die "the packages of $peers/requirements.txt could not be installed"
  cp "$peers/requirements.txt" "$environment/requirements.txt"
}

# Nobody's settings may leak in.
for name in "${!RETAINAI_@}"; do unset "$name"; done
command -v cargo >/dev/null || die "cargo is not installed: get a stable Rust toolchain first"
set_up_python
# BENCH_PROFILE=release measures what users run; the default saves building every dependency once more.
profile="${BENCH_PROFILE:-ci}"
cargo build --profile "$profile" -p bench-sources

export OMP_NUM_THREADS=1
pages="$(mktemp -d "${TMPDIR:-/tmp}/retainai-bench.XXXXXX")"
trap 'rm -rf "$pages"' EXIT
"$target/$profile/bench-sources" pages "$pages"
"$python" bench/sources/measure.py --profile "$profile" --bin-dir "$target/$profile" --pages "$pages" "$@"
