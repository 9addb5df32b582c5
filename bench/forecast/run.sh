#!/usr/bin/env bash
# `make bench-forecast`: brings PyTorch, Keras and arch, checks that PyTorch reads our model files, and measures.
# DATA is a folder of prices for the comparison with GARCH. Arguments go to measure.py (`--help` lists them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

peers=bench/forecast/peers
target="$(scripts/target-dir.sh)"
environment="$target/bench-forecast"
python="$environment/bin/python"

# PyTorch's CUDA build and what it brings: nobody should meet a full disk halfway.
NEEDED_GB=8

set_up_python() {
  if cmp -s "$peers/requirements.txt" "$environment/requirements.txt"; then return; fi
  local free_gb
  mkdir -p "$target"
  free_gb="$(df -Pk "$target" | awk 'NR == 2 { print int($4 / 1048576) }')"
  [ "$free_gb" -ge "$NEEDED_GB" ] || die "PyTorch and its company need $NEEDED_GB GB in $target, which has $free_gb"
  say "installing PyTorch and arch into $environment (once, some GB)"
  rm -rf "$environment"
  if ! python3 -m venv "$environment" >/dev/null 2>&1; then
    rm -rf "$environment"
    debian_install python3 python3-venv
    python3 -m venv "$environment" || die "python3 cannot make a virtual environment"
  fi
  install requirements.txt || die "the packages of $peers/requirements.txt could not be installed"
}

# Keras may be missing for the Python at hand; then its figures are left out.
set_up_keras() {
  if cmp -s "$peers/requirements-keras.txt" "$environment/requirements-keras.txt"; then return; fi
  say "installing Keras into $environment"
  install requirements-keras.txt || { say "Keras could not be installed: its figures are left out"; return 1; }
}

install() {
  "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes --only-binary :all: -r "$peers/$1" &&
    cp "$peers/$1" "$environment/$1"
}

# The prices that the repository holds, as a folder of CSV files.
bundled_prices() {
  mkdir -p "$1/NASDAQ"
  gunzip -c market-sim/data/nasdaq.csv.gz | awk -F, -v folder="$1/NASDAQ" '
    NR > 1 {
      file = folder "/" $2 ".csv"
      if (!(file in seen)) { print "date,open,high,low,close,volume" >file; seen[file] = 1 }
      print $3 "," $4 "," $5 "," $6 "," $7 "," $8 >file
    }'
}

# Nobody's settings may leak in.
for name in "${!RETAINAI_@}"; do unset "$name"; done
command -v cargo >/dev/null || die "cargo is not installed: get a stable Rust toolchain first"
set_up_python
keras=()
if set_up_keras; then keras=(--keras); fi
# BENCH_PROFILE=release measures what users run; the default saves building every dependency once more.
profile="${BENCH_PROFILE:-ci}"
cargo build --profile "$profile" -p retainai -p bench-forecast --bins
cargo build --profile "$profile" -p kernel --example speed

# Everybody computes on one thread; Keras and PyTorch look for no GPU.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive RAYON_NUM_THREADS=1 CUDA_VISIBLE_DEVICES="" TF_CPP_MIN_LOG_LEVEL=3
work="$(mktemp -d "${TMPDIR:-/tmp}/retainai-bench.XXXXXX")"
trap 'rm -rf "$work"' EXIT
"$target/$profile/bench-forecast" models "$work"
for kind in global ticker; do
  "$python" "$peers/load_weights.py" "$work/$kind.safetensors" "$work/$kind.json" 1e-5 ||
    die "PyTorch reads something else in our $kind model than we do: nothing was measured"
done
if [ -z "${DATA:-}" ]; then
  DATA="$work/prices"
  bundled_prices "$DATA"
fi
"$python" bench/forecast/measure.py --profile "$profile" --bin-dir "$target/$profile" --work-dir "$work" --prices "$DATA" "${keras[@]}" "$@"
