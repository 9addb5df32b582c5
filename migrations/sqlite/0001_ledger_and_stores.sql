-- The ledger (what must happen, what has happened) and the stores, for the embedded default.
-- Same version numbers and columns as ../postgres; what each column means stands there in COMMENT ON.
-- Instants are INTEGER microseconds since 1970 UTC, dates TEXT YYYY-MM-DD, ids BLOB(16).

create table ticker (
    exchange text not null, ticker text not null, name text, active integer not null default 1,
    series_version integer not null default 0, champion text, forecast_id blob, added_at integer not null,
    primary key (exchange, ticker)
) strict, without rowid;

create table schedule (
    id text primary key, exchange text not null, plan text not null, local_time text not null,
    catch_up text not null check (catch_up in ('skip', 'latest', 'all')), paused integer not null default 0
) strict, without rowid;

create table tick (
    schedule_id text not null references schedule (id), session text not null, runs integer not null, created_at integer not null,
    primary key (schedule_id, session)
) strict, without rowid;

create table run (
    id blob primary key, plan text not null, exchange text not null, ticker text not null,
    session text not null, aimed_session text not null, schedule_id text references schedule (id), priority integer not null,
    offline integer not null default 0, idempotency_key text unique, lineage blob,
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'no_new_session')),
    verdict text check (verdict in ('failed', 'cancelled', 'no_new_session')), reason text,
    created_at integer not null, started_at integer, finished_at integer
) strict, without rowid;
create unique index run_once_per_tick on run (schedule_id, aimed_session, exchange, ticker) where schedule_id is not null;
create index run_by_ticker on run (exchange, ticker, id desc);
create index run_by_state on run (state, id desc);

create table step (
    run_id blob not null references run (id) on delete cascade, step text not null, seq integer not null, queue text not null,
    state text not null check (state in ('waiting', 'ready', 'running', 'done', 'failed', 'skipped', 'cancelled')),
    generation integer not null default 0, attempt integer not null default 0, max_attempts integer not null,
    epoch integer not null default 0, due_at integer not null, sent_at integer, lease_owner blob, lease_until integer,
    note text, error text, finished_at integer,
    primary key (run_id, step)
) strict, without rowid;
create index step_ready on step (queue, due_at) where state = 'ready';
create index step_running on step (lease_until) where state = 'running';

create table attempt (
    run_id blob not null references run (id) on delete cascade, step text not null, epoch integer not null, attempt integer not null,
    worker text not null, started_at integer not null, finished_at integer,
    outcome text not null check (outcome in ('running', 'done', 'skipped', 'retry', 'failed', 'interrupted', 'lost', 'fenced', 'cancelled')),
    detail text,
    primary key (run_id, step, epoch)
) strict, without rowid;

create table effect (
    run_id blob not null references run (id) on delete cascade, step text not null, epoch integer not null,
    applied_at integer not null, detail text not null,
    primary key (run_id, step)
) strict, without rowid;

create table staging (
    run_id blob primary key references run (id) on delete cascade, exchange text not null, ticker text not null,
    staged_at integer not null, batch blob not null
) strict, without rowid;

create table price_raw (
    exchange text not null, ticker text not null, session text not null, source text not null, revision integer not null,
    fetched_at integer not null, open real, high real, low real, close real not null, ltp real, prev_close real, volume real,
    body_sha256 text not null,
    primary key (exchange, ticker, session, source, revision)
) strict, without rowid;

create table price_daily (
    exchange text not null, ticker text not null, session text not null, source text not null, revision integer not null,
    open real, high real, low real, close real not null, ltp real, prev_close real, volume real,
    primary key (exchange, ticker, session)
) strict, without rowid;

create table series (
    exchange text not null, ticker text not null, version integer not null, bars integer not null,
    first_session text not null, last_session text not null, block blob not null,
    primary key (exchange, ticker)
) strict, without rowid;

create table corporate_action (
    exchange text not null, ticker text not null, session text not null, factor real not null, source text not null, announced_at integer not null,
    primary key (exchange, ticker, session)
) strict, without rowid;

create table session (
    exchange text not null, session text not null, evidence text not null, observed_at integer not null,
    primary key (exchange, session)
) strict, without rowid;

create table model (
    hash text primary key, exchange text not null, ticker text not null, parent text, recipe text not null, seed integer not null,
    as_of text not null, input_hash text not null, metrics text not null check (json_valid(metrics)), weights blob,
    run_id blob, created_at integer not null
) strict, without rowid;
create index model_by_ticker on model (exchange, ticker, created_at desc);

create table forecast (
    id blob primary key, exchange text not null, ticker text not null, as_of text not null, target text not null,
    model_version text not null, input_hash text not null, kind text not null check (kind in ('forecast', 'hindcast')),
    issued_at integer not null, stored_at integer not null, body text not null check (json_valid(body)), run_id blob,
    unique (exchange, ticker, as_of, target, model_version, input_hash)
) strict, without rowid;
create index forecast_by_ticker on forecast (exchange, ticker, as_of desc);
