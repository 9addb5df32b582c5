#!/usr/bin/env bash
# Sourced by test.sh: a PostgreSQL and a Redis of our own on free ports, with throw-away data.
# start_servers exports their addresses; stop_servers ends exactly these two and removes their data.

servers_dir=""
redis_pid=""
postgres_data=""

start_servers() {
  servers_dir="$(mktemp -d "${TMPDIR:-/tmp}/retainai-test.XXXXXX")"
  chmod 755 "$servers_dir"
  start_postgres
  start_redis
}

stop_servers() {
  if [ -n "$redis_pid" ]; then
    kill "$redis_pid" 2>/dev/null || true
    wait "$redis_pid" 2>/dev/null || true
    redis_pid=""
  fi
  if [ -n "$postgres_data" ]; then
    # Immediate: the data is thrown away. pg_ctl signals the process named in this folder's own pid file.
    as_postgres "$(postgres_bin)/pg_ctl" stop -s -m immediate -D "$postgres_data" >/dev/null 2>&1 || true
    postgres_data=""
  fi
  if [ -n "$servers_dir" ]; then
    rm -rf "$servers_dir"
    servers_dir=""
  fi
}

start_postgres() {
  local bin port log
  bin="$(postgres_bin)"
  log="$servers_dir/postgres/log"
  mkdir "$servers_dir/postgres"
  if [ "$(id -u)" -eq 0 ]; then chown "$(postgres_user)" "$servers_dir/postgres"; fi
  as_postgres "$bin/initdb" --no-sync --auth=trust --username=retainai --encoding=UTF8 --no-locale \
    -D "$servers_dir/postgres/data" >"$servers_dir/initdb.log" 2>&1 || {
    cat "$servers_dir/initdb.log" >&2
    die "initdb failed"
  }
  for _ in 1 2 3 4 5 6 7 8; do
    port="$(candidate_port)"
    # A port that was taken meanwhile makes the server exit: then the next candidate.
    if as_postgres "$bin/pg_ctl" start -s -w -t 60 -D "$servers_dir/postgres/data" -l "$log" \
      -o "-p $port -h 127.0.0.1 -k $servers_dir/postgres -c max_connections=300 -c fsync=on" >/dev/null 2>&1; then
      postgres_data="$servers_dir/postgres/data"
      export RETAINAI_TEST_POSTGRES_URL="postgres://retainai@127.0.0.1:$port/postgres"
      return
    fi
  done
  tail -n 30 "$log" >&2 || true
  die "PostgreSQL did not start"
}

start_redis() {
  local port
  for _ in 1 2 3 4 5 6 7 8; do
    port="$(candidate_port)"
    mkdir -p "$servers_dir/redis"
    redis-server --port "$port" --bind 127.0.0.1 --dir "$servers_dir/redis" --daemonize no \
      --save "" --appendonly yes --maxmemory-policy noeviction >"$servers_dir/redis.log" 2>&1 &
    redis_pid=$!
    if redis_answers "$port"; then
      export RETAINAI_TEST_REDIS_URL="redis://127.0.0.1:$port"
      return
    fi
    kill "$redis_pid" 2>/dev/null || true
    wait "$redis_pid" 2>/dev/null || true
    redis_pid=""
  done
  tail -n 30 "$servers_dir/redis.log" >&2 || true
  die "Redis did not start"
}

# Whether the server on this port is the one just started: somebody else's may have been quicker.
redis_answers() {
  for _ in $(seq 200); do
    if ! kill -0 "$redis_pid" 2>/dev/null; then return 1; fi
    if redis-cli -h 127.0.0.1 -p "$1" info server 2>/dev/null | tr -d '\r' | grep -qx "process_id:$redis_pid"; then return 0; fi
    sleep 0.05
  done
  return 1
}

# Below the ports that outgoing connections take for themselves; whether it is free shows when the server binds it.
candidate_port() { printf '%s\n' "$((20000 + (RANDOM * 32768 + RANDOM) % 12000))"; }

# PostgreSQL refuses to run as root.
postgres_user() { if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

as_postgres() {
  if [ "$(id -u)" -ne 0 ]; then "$@"; return; fi
  (cd / && runuser -u "$(postgres_user)" -- "$@")
}
