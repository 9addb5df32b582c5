-- The durable engine: runs of any plan and subject, step rows that exist only once a step is ready, conditions, pauses, one active run
-- per subject, ticks and backfills that go on where they were, audit. Same version numbers and columns as ../postgres; what each column
-- means stands there in COMMENT ON. Runs are partitioned by month there; here retention deletes rows.

create table installation (id blob not null primary key, created_at integer not null) strict;

alter table run rename to run_0001;
alter table step rename to step_0001;
alter table attempt rename to attempt_0001;
alter table effect rename to effect_0001;
alter table staging rename to staging_0001;
alter table schedule rename to schedule_0001;
alter table tick rename to tick_0001;

create table schedule (
    id text primary key, exchange text not null, plan text not null, local_time text not null,
    catch_up text not null check (catch_up in ('skip', 'latest', 'all')),
    overlap text not null default 'queue_one' check (overlap in ('skip', 'queue_one', 'cancel_old')),
    paused integer not null default 0
) strict, without rowid;
insert into schedule (id, exchange, plan, local_time, catch_up, paused) select id, exchange, plan, local_time, catch_up, paused from schedule_0001;

create table tick (
    schedule_id text not null, session text not null, nth integer not null default 0,
    state text not null check (state in ('queued', 'firing', 'fired', 'skipped')), reason text not null default '',
    cursor text not null default '', runs integer not null default 0, created_at integer not null,
    primary key (schedule_id, session, nth)
) strict, without rowid;
create index tick_open on tick (created_at) where state in ('queued', 'firing');
insert into tick (schedule_id, session, state, reason, runs, created_at) select schedule_id, session, 'fired', 'scheduled', runs, created_at from tick_0001;

create table run (
    id blob primary key, plan text not null, plan_version integer not null, subject text not null, exchange text, ticker text,
    session text not null, aimed_session text not null, schedule_id text, backfill_id blob, priority integer not null,
    offline integer not null default 0, idempotency_key text, lineage blob,
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'no_new_session')),
    verdict text check (verdict in ('failed', 'cancelled', 'no_new_session')), reason text, pinned integer not null default 0,
    created_at integer not null, started_at integer, finished_at integer
) strict, without rowid;
insert into run (id, plan, plan_version, subject, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key,
                 lineage, state, verdict, reason, created_at, started_at, finished_at)
    select id, plan, 1, exchange || ':' || ticker, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key,
           lineage, state, verdict, reason, created_at, started_at, finished_at from run_0001;

create table step (
    run_id blob not null, step text not null, seq integer not null, queue text not null,
    state text not null check (state in ('waiting', 'ready', 'running', 'done', 'failed', 'skipped', 'cancelled')),
    generation integer not null default 0, attempt integer not null default 0, max_attempts integer not null, losses integer not null default 0,
    epoch integer not null default 0, first_ready_at integer not null, due_at integer not null, sent_at integer,
    lease_owner blob, lease_until integer, wait_for text, note text, error text, finished_at integer,
    primary key (run_id, step)
) strict, without rowid;
insert into step (run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, first_ready_at, due_at, sent_at,
                  lease_owner, lease_until, note, error, finished_at)
    select run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, due_at, due_at, null,
           lease_owner, lease_until, note, error, finished_at from step_0001 where state <> 'waiting';

create table attempt (
    run_id blob not null, step text not null, epoch integer not null, attempt integer not null,
    worker text not null, started_at integer not null, finished_at integer,
    outcome text not null check (outcome in ('running', 'done', 'skipped', 'retry', 'failed', 'interrupted', 'waited', 'lost', 'fenced', 'cancelled')),
    error_kind text, detail text,
    primary key (run_id, step, epoch)
) strict, without rowid;
insert into attempt (run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail)
    select run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail from attempt_0001;

create table effect (
    run_id blob not null, step text not null, epoch integer not null, applied_at integer not null, detail text not null,
    primary key (run_id, step)
) strict, without rowid;
insert into effect (run_id, step, epoch, applied_at, detail) select run_id, step, epoch, applied_at, detail from effect_0001;

create table staging (
    run_id blob primary key, exchange text not null, ticker text not null, staged_at integer not null, batch blob not null
) strict, without rowid;
insert into staging (run_id, exchange, ticker, staged_at, batch) select run_id, exchange, ticker, staged_at, batch from staging_0001;

drop table staging_0001;
drop table effect_0001;
drop table attempt_0001;
drop table step_0001;
drop table run_0001;
drop table tick_0001;
drop table schedule_0001;

create index run_by_ticker on run (exchange, ticker, id desc);
create index run_by_state on run (state, id desc);
create index run_by_session on run (exchange, aimed_session);
create index run_queued on run (plan, subject, priority desc, id) where state = 'queued';
create index run_of_schedule on run (schedule_id, id) where state in ('queued', 'running');
create index run_of_backfill on run (backfill_id) where state in ('queued', 'running');
create index step_unsent on step (queue, due_at, run_id) where state = 'ready' and sent_at is null;
create index step_sent on step (queue, sent_at) where state = 'ready' and sent_at is not null;
create index step_running on step (lease_until) where state = 'running';
create index step_waiting on step (wait_for) where state = 'waiting';
create index step_deadline on step (due_at) where state = 'waiting';

create table active (plan text not null, subject text not null, run_id blob not null, primary key (plan, subject)) strict, without rowid;
create index active_run on active (run_id);
insert into active (plan, subject, run_id) select plan, subject, max(id) from run where state in ('queued', 'running') group by plan, subject;

create table start_key (key text primary key, run_id blob not null, created_at integer not null) strict, without rowid;
insert into start_key (key, run_id, created_at) select idempotency_key, id, created_at from run where idempotency_key is not null;

create table condition (key text primary key, value text not null, met_at integer not null) strict, without rowid;

create table pause (
    kind text not null check (kind in ('step', 'source', 'exchange', 'ticker')), value text not null, since integer not null, reason text not null,
    primary key (kind, value)
) strict, without rowid;

create table leader (duty text primary key, instance blob not null, until integer not null) strict, without rowid;

create table worker (
    instance blob primary key, name text not null, version text not null, steps text not null, slots integer not null,
    started_at integer not null, seen_at integer not null
) strict, without rowid;

create table backfill (
    id blob primary key, exchange text not null, tickers text not null check (json_valid(tickers)), from_session text not null, to_session text not null,
    policy text not null check (policy in ('missing', 'missing_and_failed', 'all')), max_active integer not null, offline integer not null,
    state text not null check (state in ('running', 'paused', 'cancelled', 'done')), cursor_session text not null, cursor_ticker text not null,
    runs integer not null default 0, created_at integer not null, finished_at integer
) strict, without rowid;

create table audit (
    id blob primary key, at integer not null, who text not null, door text not null, action text not null, subject text not null, detail text not null
) strict, without rowid;
