-- The durable engine: runs of any plan and subject, step rows that exist only once a step is ready, conditions, pauses, one active run
-- per subject, ticks and backfills that go on where they were, audit. Same version numbers and columns as ../sqlite; what each column
-- means stands here in COMMENT ON. Runs and what belongs to them are partitioned by month of the run's id (UUIDv7 begins with its time),
-- so that old history goes by dropping partitions; `retainai` makes the months, the default partition takes what has none.

create table installation (id uuid not null primary key, created_at timestamptz not null);

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
    paused boolean not null default false
);
insert into schedule (id, exchange, plan, local_time, catch_up, paused) select id, exchange, plan, local_time, catch_up, paused from schedule_0001;

create table tick (
    schedule_id text not null, session date not null, nth bigint not null default 0,
    state text not null check (state in ('queued', 'firing', 'fired', 'skipped')), reason text not null default '',
    cursor text not null default '', runs bigint not null default 0, created_at timestamptz not null,
    primary key (schedule_id, session, nth)
);
create index tick_open on tick (created_at) where state in ('queued', 'firing');
insert into tick (schedule_id, session, state, reason, runs, created_at) select schedule_id, session, 'fired', 'scheduled', runs, created_at from tick_0001;

create table run (
    id uuid primary key, plan text not null, plan_version bigint not null, subject text not null, exchange text, ticker text,
    session date not null, aimed_session date not null, schedule_id text, backfill_id uuid, priority bigint not null,
    offline boolean not null default false, idempotency_key text, lineage uuid,
    state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'no_new_session')),
    verdict text check (verdict in ('failed', 'cancelled', 'no_new_session')), reason text, pinned boolean not null default false,
    created_at timestamptz not null, started_at timestamptz, finished_at timestamptz
) partition by range (id);
create table run_default partition of run default;
insert into run (id, plan, plan_version, subject, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key,
                 lineage, state, verdict, reason, created_at, started_at, finished_at)
    select id, plan, 1, exchange || ':' || ticker, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key,
           lineage, state, verdict, reason, created_at, started_at, finished_at from run_0001;

create table step (
    run_id uuid not null, step text not null, seq bigint not null, queue text not null,
    state text not null check (state in ('waiting', 'ready', 'running', 'done', 'failed', 'skipped', 'cancelled')),
    generation bigint not null default 0, attempt bigint not null default 0, max_attempts bigint not null, losses bigint not null default 0,
    epoch bigint not null default 0, first_ready_at timestamptz not null, due_at timestamptz not null, sent_at timestamptz,
    lease_owner uuid, lease_until timestamptz, wait_for text, note text, error text, finished_at timestamptz,
    primary key (run_id, step)
) partition by range (run_id);
create table step_default partition of step default;
insert into step (run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, first_ready_at, due_at, sent_at,
                  lease_owner, lease_until, note, error, finished_at)
    select run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, due_at, due_at, null,
           lease_owner, lease_until, note, error, finished_at from step_0001 where state <> 'waiting';

create table attempt (
    run_id uuid not null, step text not null, epoch bigint not null, attempt bigint not null,
    worker text not null, started_at timestamptz not null, finished_at timestamptz,
    outcome text not null check (outcome in ('running', 'done', 'skipped', 'retry', 'failed', 'interrupted', 'waited', 'lost', 'fenced', 'cancelled')),
    error_kind text, detail text,
    primary key (run_id, step, epoch)
) partition by range (run_id);
create table attempt_default partition of attempt default;
insert into attempt (run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail)
    select run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail from attempt_0001;

create table effect (
    run_id uuid not null, step text not null, epoch bigint not null, applied_at timestamptz not null, detail text not null,
    primary key (run_id, step)
) partition by range (run_id);
create table effect_default partition of effect default;
insert into effect (run_id, step, epoch, applied_at, detail) select run_id, step, epoch, applied_at, detail from effect_0001;

create table staging (
    run_id uuid primary key, exchange text not null, ticker text not null, staged_at timestamptz not null, batch bytea not null
);
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

create table active (plan text not null, subject text not null, run_id uuid not null, primary key (plan, subject));
create index active_run on active (run_id);
insert into active (plan, subject, run_id) select distinct on (plan, subject) plan, subject, id from run where state in ('queued', 'running') order by plan, subject, id desc;

create table start_key (key text primary key, run_id uuid not null, created_at timestamptz not null);
insert into start_key (key, run_id, created_at) select idempotency_key, id, created_at from run where idempotency_key is not null;

create table condition (key text primary key, value text not null, met_at timestamptz not null);

create table pause (
    kind text not null check (kind in ('step', 'source', 'exchange', 'ticker')), value text not null, since timestamptz not null, reason text not null,
    primary key (kind, value)
);

create table leader (duty text primary key, instance uuid not null, until timestamptz not null);

create table worker (
    instance uuid primary key, name text not null, version text not null, steps text not null, slots bigint not null,
    started_at timestamptz not null, seen_at timestamptz not null
);

create table backfill (
    id uuid primary key, exchange text not null, tickers jsonb not null , from_session date not null, to_session date not null,
    policy text not null check (policy in ('missing', 'missing_and_failed', 'all')), max_active bigint not null, offline boolean not null,
    state text not null check (state in ('running', 'paused', 'cancelled', 'done')), cursor_session date not null, cursor_ticker text not null,
    runs bigint not null default 0, created_at timestamptz not null, finished_at timestamptz
);

create table audit (
    id uuid primary key, at timestamptz not null, who text not null, door text not null, action text not null, subject text not null, detail text not null
);

comment on table installation is 'One row: who this ledger is. Redis keeps the same id under its prefix, so that two installations notice each other.';
comment on column schedule.overlap is 'For a ticker whose run of an earlier session has not ended: leave it out, let one run wait behind it, or cancel it.';
comment on table tick is 'One firing of a schedule for one session: exactly one with nth = 0. Any replica may insert it and go on with it.';
comment on column tick.nth is '0 by the clock; more for each time it was triggered by hand.';
comment on column tick.state is 'queued: makes way by the overlap policy; firing: runs are being started; fired: all are; skipped: every ticker was left out.';
comment on column tick.cursor is 'The last ticker whose run was started. A replica that dies in between leaves it to the next.';
comment on column tick.reason is 'Why it fired or did not.';
comment on table run is 'One pass of one subject through a plan, for one session. The id is time-ordered (UUIDv7).';
comment on column run.plan_version is 'The version of the plan it began with and keeps.';
comment on column run.subject is 'What it is about: EXCHANGE:TICKER, an exchange, or an id of another plan''s own. At most one run of a plan and subject is active.';
comment on column run.aimed_session is 'The session it was started for; never changes.';
comment on column run.session is 'The newest session it found; starts as aimed_session, corrected by the scrape step.';
comment on column run.schedule_id is 'The schedule whose tick started it; null for runs started by a person.';
comment on column run.backfill_id is 'The backfill that started it.';
comment on column run.priority is 'Greater first: 10 for runs that a person waits for, 0 for scheduled ones, -10 for backfills.';
comment on column run.lineage is 'The run that this one repeats.';
comment on column run.verdict is 'How it will end once its closing step is done, when that is not success.';
comment on column run.reason is 'In words: why it failed, or what a reader should know.';
comment on column run.pinned is 'Kept by retention whatever its age.';
comment on table step is 'One step of a run and where it stands. A row appears when the step becomes ready; what is not here waits its turn.';
comment on column step.generation is 'Rises whenever the step becomes ready again; part of the message id, so an old message is recognised.';
comment on column step.attempt is 'Attempts so far; raised by the claim, so that a crash counts. An interruption or a wait takes it back.';
comment on column step.losses is 'Attempts that ended with their worker. From the second on the step runs alone in its process.';
comment on column step.epoch is 'Fencing number: raised by each claim; only the holder of the current one may complete.';
comment on column step.first_ready_at is 'When it became ready for the first time; its total deadline counts from here.';
comment on column step.due_at is 'Ready: not before this instant. Waiting: no longer than this.';
comment on column step.sent_at is 'When its message was last pushed; null: it will be pushed when due.';
comment on column step.lease_owner is 'The process instance that holds it.';
comment on column step.lease_until is 'After this instant it is taken back, even if its worker''s advisory lock stands.';
comment on column step.wait_for is 'Waiting: for which condition. `active`: an earlier run of the subject; `pause:KIND:VALUE`: a resume; else a key of table condition.';
comment on column step.note is 'What the step says of its result, in words.';
comment on table attempt is 'One try of a step, by one worker, under one epoch. Inserted by the claim, closed by whoever ends it.';
comment on column attempt.error_kind is 'What kind of failure: the plan says which kinds are never tried again.';
comment on table effect is 'Proof that a step''s effects were applied, and applied once: the key admits one row per step.';
comment on table staging is 'A run''s scraped batch between scrape and archive (gzipped JSON); cleanup deletes it, however the run ends.';
comment on table active is 'The one active run of each plan and subject; others of the same subject wait for it.';
comment on table start_key is 'Idempotency keys: a second start under the same key is the first.';
comment on table condition is 'Conditions that have come true; steps waiting for the key are released.';
comment on table pause is 'What is paused: a step kind, a source, an exchange or a ticker (EXCHANGE:TICKER).';
comment on table leader is 'Who does a duty that one process is enough for, until when. Two leaders would be wasteful, not wrong.';
comment on table worker is 'Worker processes, their step kinds and slots; seen_at is renewed with the leases.';
comment on table backfill is 'Runs to be started over sessions and tickers, a few at a time; the cursor says how far it has come.';
comment on column backfill.max_active is 'At most so many of its runs are open at once.';
comment on table audit is 'Who did what, when, through which door (api, cli, dashboard, chat, engine).';
