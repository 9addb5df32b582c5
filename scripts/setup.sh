#!/usr/bin/env bash
# Brings what the tests and the lints need: `scripts/setup.sh test` or `scripts/setup.sh lint`.
# Also sourced by test.sh, chaos.sh and lint.sh for its functions. Starts no service, and leaves running ones alone.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# What the tests need: servers, and the program that runs tests.
setup_test() {
  setup_servers
  cargo nextest --version >/dev/null 2>&1 || use_tools
}

# A compiler, and the servers that tests and fault runs start for themselves.
setup_servers() {
  command -v cargo >/dev/null || die "cargo is not installed: get a stable Rust toolchain first"
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  [ -n "$(postgres_bin)" ] || missing+=(postgresql)
  if [ "${#missing[@]}" -gt 0 ]; then debian_install "${missing[@]}"; fi
  command -v redis-server >/dev/null || die "redis-server is still not on the PATH"
  [ -n "$(postgres_bin)" ] || die "PostgreSQL's initdb is still not to be found"
}

# The tools of the lints; clippy and rustfmt belong to the toolchain and are not ours to fetch.
setup_lint() {
  cargo fmt --version >/dev/null 2>&1 || die "this Rust toolchain has no rustfmt: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || die "this Rust toolchain has no clippy: rustup component add clippy"
  use_tools
}

# The folder of the newest PostgreSQL server here. Debian keeps its programs off the PATH.
postgres_bin() {
  local found initdb
  found="$(find /usr/lib/postgresql /opt/homebrew/opt /usr/local/opt -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)"
  if [ -n "$found" ]; then dirname "$found"; return; fi
  initdb="$(command -v initdb || true)"
  if [ -n "$initdb" ]; then dirname "$(readlink -f "$initdb")"; fi
}

# Puts the pinned tools of tools.txt first on the PATH, in a virtual environment under the target folder.
use_tools() {
  local tools pins
  tools="$("$root/scripts/target-dir.sh")/tools"
  pins="$root/scripts/tools.txt"
  if ! cmp -s "$pins" "$tools/tools.txt"; then
    say "installing the pinned tools into $tools"
    rm -rf "$tools"
    if ! python3 -m venv "$tools" >/dev/null 2>&1; then
      rm -rf "$tools"
      debian_install python3 python3-venv
      python3 -m venv "$tools" || die "python3 cannot make a virtual environment"
    fi
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$pins" ||
      die "the tools of scripts/tools.txt could not be installed"
    cp "$pins" "$tools/tools.txt"
  fi
  export PATH="$tools/bin:$PATH"
}

# Installs Debian packages without letting them start their services.
debian_install() {
  command -v apt-get >/dev/null || die "please install: $* (only Debian's apt-get is known to this script)"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "please install, as root: apt-get install $*"
    as_root=(sudo)
  fi
  say "installing $* with apt-get"
  # shellcheck disable=SC2016 # the inner shell expands these
  "${as_root[@]}" bash -euo pipefail -c '
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" >"$policy"
      chmod 755 "$policy"
    fi
    log="$(mktemp)"
    { apt-get update || true; apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
    rm -f "$log"
    if [ -d /run/systemd/system ]; then systemctl disable --quiet "$@" 2>/dev/null || true; fi
  ' debian_install "$@" </dev/null || die "apt-get could not install: $*"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  cd "$root"
  case "${1:-}" in
    test) setup_test ;;
    lint) setup_lint ;;
    *) die "usage: scripts/setup.sh test|lint" ;;
  esac
fi
