-- The ledger (what must happen, what has happened) and the stores, for PostgreSQL. Same version numbers and columns as ../sqlite.

create table ticker (
    exchange text not null, ticker text not null, name text, active boolean not null default true,
    series_version bigint not null default 0, champion text, forecast_id uuid, added_at timestamptz not null,
    primary key (exchange, ticker)
);
comment on table ticker is 'Every equity we know. Its row is the lock that keeps two archivings of one ticker apart.';
comment on column ticker.active is 'Whether schedules start runs for it.';
comment on column ticker.series_version is 'Rises with each archiving; equal to series.version.';
comment on column ticker.champion is 'Hash of the model that serves; null before the first fine-tuning.';
comment on column ticker.forecast_id is 'The newest forecast (greatest as_of, then the latest issued); written in the transaction that stores it.';

create table schedule (
    id text primary key, exchange text not null, plan text not null, local_time text not null,
    catch_up text not null check (catch_up in ('skip', 'latest', 'all')), paused boolean not null default false
);
comment on table schedule is 'When runs of a plan start by themselves: a time of day in the exchange''s zone.';
comment on column schedule.catch_up is 'What happens to sessions missed while nothing ran: none, only the latest, or all of them.';

create table tick (
    schedule_id text not null references schedule (id), session date not null, runs bigint not null, created_at timestamptz not null,
    primary key (schedule_id, session)
);
comment on table tick is 'One firing of a schedule for one session. Any replica may try to insert it; one wins and starts the runs in the same transaction.';

create table run (
    id uuid primary key, plan text not null, exchange text not null, ticker text not null,
    session date not null, aimed_session date not null, schedule_id text references schedule (id), priority bigint not null,
    offline boolean not null default false, idempotency_key text unique, lineage uuid,
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'no_new_session')),
    verdict text check (verdict in ('failed', 'cancelled', 'no_new_session')), reason text,
    created_at timestamptz not null, started_at timestamptz, finished_at timestamptz
);
comment on table run is 'One ticker, one pass through the chain, for one session. The id is time-ordered (UUIDv7).';
comment on column run.aimed_session is 'The session it was started for; never changes.';
comment on column run.session is 'The newest session it found; starts as aimed_session, corrected by the scrape step.';
comment on column run.schedule_id is 'The schedule whose tick started it; null for runs started by a person.';
comment on column run.priority is 'Greater first; 10 for runs that a person waits for, 0 for scheduled ones.';
comment on column run.lineage is 'The run that this one repeats.';
comment on column run.verdict is 'How it will end once its cleanup is done, when that is not success.';
comment on column run.reason is 'In words: why it failed, or what a reader should know.';
create unique index run_once_per_tick on run (schedule_id, aimed_session, exchange, ticker) where schedule_id is not null;
create index run_by_ticker on run (exchange, ticker, id desc);
create index run_by_state on run (state, id desc);

create table step (
    run_id uuid not null references run (id) on delete cascade, step text not null, seq bigint not null, queue text not null,
    state text not null check (state in ('waiting', 'ready', 'running', 'done', 'failed', 'skipped', 'cancelled')),
    generation bigint not null default 0, attempt bigint not null default 0, max_attempts bigint not null,
    epoch bigint not null default 0, due_at timestamptz not null, sent_at timestamptz, lease_owner uuid, lease_until timestamptz,
    note text, error text, finished_at timestamptz,
    primary key (run_id, step)
);
comment on table step is 'One step of a run and where it stands. Written by claim, complete, the reconciler and cancel only.';
comment on column step.generation is 'Rises whenever the step becomes ready again; part of the message id, so an old message is recognised.';
comment on column step.attempt is 'Attempts so far; raised by the claim, so that a crash counts. An interruption takes it back.';
comment on column step.epoch is 'Fencing number: raised by each claim; only the holder of the current one may complete.';
comment on column step.due_at is 'Not before this instant.';
comment on column step.sent_at is 'When its message was last pushed; null: the reconciler will push it when due.';
comment on column step.lease_owner is 'The process instance that holds it.';
comment on column step.lease_until is 'After this instant the reconciler takes it back.';
comment on column step.note is 'What the step says of its result, in words.';
create index step_ready on step (queue, due_at) where state = 'ready';
create index step_running on step (lease_until) where state = 'running';

create table attempt (
    run_id uuid not null references run (id) on delete cascade, step text not null, epoch bigint not null, attempt bigint not null,
    worker text not null, started_at timestamptz not null, finished_at timestamptz,
    outcome text not null check (outcome in ('running', 'done', 'skipped', 'retry', 'failed', 'interrupted', 'lost', 'fenced', 'cancelled')),
    detail text,
    primary key (run_id, step, epoch)
);
comment on table attempt is 'One try of a step, by one worker, under one epoch. Inserted by the claim, closed by whoever ends it.';

create table effect (
    run_id uuid not null references run (id) on delete cascade, step text not null, epoch bigint not null,
    applied_at timestamptz not null, detail text not null,
    primary key (run_id, step)
);
comment on table effect is 'Proof that a step''s effects were applied, and applied once: the key admits one row per step.';

create table staging (
    run_id uuid primary key references run (id) on delete cascade, exchange text not null, ticker text not null,
    staged_at timestamptz not null, batch bytea not null
);
comment on table staging is 'A run''s scraped batch between scrape and archive (gzipped JSON); cleanup deletes it, however the run ends.';

create table price_raw (
    exchange text not null, ticker text not null, session date not null, source text not null, revision bigint not null,
    fetched_at timestamptz not null, open double precision, high double precision, low double precision, close double precision not null,
    ltp double precision, prev_close double precision, volume double precision, body_sha256 text not null,
    primary key (exchange, ticker, session, source, revision)
);
comment on table price_raw is 'Every version of every bar that a source ever gave. Append-only: a changed close is a new revision, an identical re-read nothing.';

create table price_daily (
    exchange text not null, ticker text not null, session date not null, source text not null, revision bigint not null,
    open double precision, high double precision, low double precision, close double precision not null,
    ltp double precision, prev_close double precision, volume double precision,
    primary key (exchange, ticker, session)
);
comment on table price_daily is 'The chosen version of each bar: the newest revision of the last source that spoke.';

create table series (
    exchange text not null, ticker text not null, version bigint not null, bars bigint not null,
    first_session date not null, last_session date not null, block bytea not null,
    primary key (exchange, ticker)
);
comment on table series is 'price_daily and corporate_action of one ticker as one block, so that training reads one row. Derived; rebuilt by archive.';

create table corporate_action (
    exchange text not null, ticker text not null, session date not null, factor double precision not null, source text not null, announced_at timestamptz not null,
    primary key (exchange, ticker, session)
);
comment on table corporate_action is 'Reference price = previous close x factor on this session.';

create table session (
    exchange text not null, session date not null, evidence text not null, observed_at timestamptz not null,
    primary key (exchange, session)
);
comment on table session is 'Trading days that were seen in data.';

create table model (
    hash text primary key, exchange text not null, ticker text not null, parent text, recipe text not null, seed bigint not null,
    as_of date not null, input_hash text not null, metrics jsonb not null, weights bytea,
    run_id uuid, created_at timestamptz not null
);
comment on table model is 'The registry. Rows stay for good; weights are kept for the champion, its parent and the last three.';
create index model_by_ticker on model (exchange, ticker, created_at desc);

create table forecast (
    id uuid primary key, exchange text not null, ticker text not null, as_of date not null, target date not null,
    model_version text not null, input_hash text not null, kind text not null check (kind in ('forecast', 'hindcast')),
    issued_at timestamptz not null, stored_at timestamptz not null, body jsonb not null, run_id uuid,
    unique (exchange, ticker, as_of, target, model_version, input_hash)
);
comment on table forecast is 'Every forecast ever made. Append-only; later scored against the close.';
comment on column forecast.kind is 'hindcast: issued after its target session had opened.';
comment on column forecast.issued_at is 'By the market clock.';
comment on column forecast.stored_at is 'By the engine clock; orders the versions in the cache.';
create index forecast_by_ticker on forecast (exchange, ticker, as_of desc);
