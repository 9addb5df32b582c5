-- What changed, in the order in which it was committed, for those who listen (`GET /v1/events`). The database itself writes it, in the transaction of each
-- change, so that no writer can forget it; and only while somebody listens, so that it costs nothing else.
-- Same version numbers and columns as ../postgres, where each column is described; there is one writer, so `tx` is always 0.

create table listening (id integer primary key check (id = 1), until integer not null, since integer not null) strict;
insert into listening (id, until, since) values (1, 0, 0);

create table event (
    id integer primary key autoincrement, tx integer not null default 0, at integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    kind text not null, run_id blob, exchange text, ticker text, subject text, state text
) strict;
create index event_by_age on event (at);

create trigger run_started_is_told after insert on run
when (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, run_id, state) values ('run', new.id, new.state);
end;

create trigger run_changed_is_told after update of state on run
when new.state <> old.state and (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, run_id, state) values ('run', new.id, new.state);
end;

create trigger step_changed_is_told after update of state, attempt on step
when (new.state <> old.state or new.attempt <> old.attempt) and (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, run_id, subject, state) values ('step', new.run_id, new.step, new.state);
end;

create trigger forecast_is_told after insert on forecast
when new.served and (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, run_id, exchange, ticker, subject, state) values ('forecast', new.run_id, new.exchange, new.ticker, new.target, new.kind);
end;

create trigger pause_is_told after insert on pause
when (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, subject, state) values ('pause', new.kind || ':' || new.value, 'paused');
end;

create trigger resume_is_told after delete on pause
when (select until from listening) > unixepoch('subsec') * 1000000
begin
    insert into event (kind, subject, state) values ('pause', old.kind || ':' || old.value, 'resumed');
end;
