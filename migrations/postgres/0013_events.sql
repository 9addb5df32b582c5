-- What changed, in the order in which it was committed, for those who listen (`GET /v1/events`). The database itself writes it, in the transaction of each
-- change, so that no writer can forget it; and only while somebody listens, so that it costs nothing else. Each trigger takes a short lock.

create table listening (id smallint primary key default 1 check (id = 1), until timestamptz not null, since timestamptz not null);
insert into listening (until, since) values ('epoch', 'epoch');
comment on table listening is 'One row: until when changes are written down. Listeners move it on.';
comment on column listening.id is 'Always 1.';
comment on column listening.until is 'From then on nothing is written.';
comment on column listening.since is 'Since then changes have been written without a pause.';

create table event (
    tx xid8 not null default pg_current_xact_id(), id bigint generated always as identity, at timestamptz not null default clock_timestamp(),
    kind text not null, run_id uuid, exchange text, ticker text, subject text, state text,
    primary key (tx, id)
);
create index event_by_age on event (at);
comment on table event is 'Changes of runs, steps, pauses and new forecasts, for as long as somebody listens. Kept an hour.';
comment on column event.tx is 'The transaction. Transactions below the oldest open one are all committed: read up to there and nothing is missed.';
comment on column event.id is 'Order within a transaction.';
comment on column event.at is 'When it was written.';
comment on column event.kind is 'run, step, forecast or pause.';
comment on column event.run_id is 'The run that it is of.';
comment on column event.exchange is 'Where it is of an exchange''s ticker and of no run.';
comment on column event.ticker is 'The ticker''s symbol.';
comment on column event.subject is 'The step, the forecast''s target session, or what is paused: KIND:VALUE.';
comment on column event.state is 'The state that it is in now.';

create function tell_run_started() returns trigger language plpgsql as $$
begin
    if exists (select 1 from listening where until > clock_timestamp()) then
        insert into event (kind, run_id, state) select 'run', id, state from fresh;
    end if;
    return null;
end $$;
create trigger run_started_is_told after insert on run referencing new table as fresh
    for each statement execute function tell_run_started();

create function tell_run_changed() returns trigger language plpgsql as $$
begin
    if exists (select 1 from listening where until > clock_timestamp()) then
        insert into event (kind, run_id, state)
            select 'run', fresh.id, fresh.state from fresh join stale on stale.id = fresh.id where fresh.state <> stale.state;
    end if;
    return null;
end $$;
create trigger run_changed_is_told after update on run referencing new table as fresh old table as stale
    for each statement execute function tell_run_changed();

create function tell_step_changed() returns trigger language plpgsql as $$
begin
    if exists (select 1 from listening where until > clock_timestamp()) then
        insert into event (kind, run_id, subject, state)
            select 'step', fresh.run_id, fresh.step, fresh.state
            from fresh join stale on stale.run_id = fresh.run_id and stale.step = fresh.step
            where fresh.state <> stale.state or fresh.attempt <> stale.attempt;
    end if;
    return null;
end $$;
create trigger step_changed_is_told after update on step referencing new table as fresh old table as stale
    for each statement execute function tell_step_changed();

create function tell_forecast() returns trigger language plpgsql as $$
begin
    if exists (select 1 from listening where until > clock_timestamp()) then
        insert into event (kind, run_id, exchange, ticker, subject, state)
            select 'forecast', run_id, exchange, ticker, target::text, kind from fresh where served;
    end if;
    return null;
end $$;
create trigger forecast_is_told after insert on forecast referencing new table as fresh
    for each statement execute function tell_forecast();

create function tell_pause() returns trigger language plpgsql as $$
begin
    if exists (select 1 from listening where until > clock_timestamp()) then
        if tg_op = 'INSERT' then
            insert into event (kind, subject, state) values ('pause', new.kind || ':' || new.value, 'paused');
        else
            insert into event (kind, subject, state) values ('pause', old.kind || ':' || old.value, 'resumed');
        end if;
    end if;
    return null;
end $$;
create trigger pause_is_told after insert or delete on pause for each row execute function tell_pause();
