-- The public record: every forecast scored against the close that came, skill by session, and alarms. Same version numbers and columns as
-- ../postgres, where each column is described.

alter table forecast add column opens_at integer check (kind = 'hindcast' or opens_at is null or issued_at < opens_at);
alter table forecast add column made_by text;
alter table forecast add column settled text check (settled in ('scored', 'not_traded', 'no_close', 'superseded'));
create index forecast_open on forecast (exchange, target) where settled is null;

create table score (
    forecast_id blob not null, revision integer not null, newest integer not null, exchange text not null, ticker text not null,
    session text not null, made_by text not null, served integer not null, hindcast integer not null, close real not null,
    reference real not null, scale real not null, error real not null,
    naive_error real not null, wis real not null, wis_ewma real not null, wis_eq real,
    in80 integer not null, in95 integer not null, pit real not null, call integer not null, came integer not null,
    scored_at integer not null, run_id blob, primary key (forecast_id, revision)
) strict;
create index score_by_ticker on score (exchange, ticker, session desc) where newest;
create index score_by_session on score (exchange, session) where newest;

create table skill_day (
    exchange text not null, line text not null, session text not null, n integer not null, squares real not null,
    naive_squares real not null, wis real not null, wis_ewma real not null,
    wis_beside_eq real not null, wis_eq real not null, in80 integer not null, in95 integer not null,
    pit real not null, calls integer not null, hits integer not null, said_up integer not null, came_up integer not null,
    primary key (exchange, line, session)
) strict;

create table alarm (
    id blob primary key, exchange text not null, ticker text not null, line text not null, kind text not null, detail text not null,
    session text not null, raised_at integer not null, cleared_at integer, run_id blob
) strict;
create unique index alarm_open on alarm (exchange, ticker, line, kind) where cleared_at is null;
create index alarm_newest on alarm (raised_at desc);
