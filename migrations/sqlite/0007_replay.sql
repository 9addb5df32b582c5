-- Replaying past runs: what each step's result was made with, and which prices, corporate actions and market returns were known at a time.
-- Same version numbers and columns as ../postgres, where each column is described.

alter table price_raw add column archived_version integer;

create table corporate_action_raw (
    exchange text not null, ticker text not null, session text not null, archived_version integer not null, factor real not null,
    source text not null, announced_at integer not null,
    primary key (exchange, ticker, session, archived_version)
) strict, without rowid;
insert into corporate_action_raw (exchange, ticker, session, archived_version, factor, source, announced_at)
    select exchange, ticker, session, 0, factor, source, announced_at from corporate_action;

create table market_day_replaced (
    exchange text not null, session text not null, mean_return real not null, tickers integer not null, written_at integer not null,
    primary key (exchange, session, written_at)
) strict, without rowid;

create table made_with (
    run_id blob not null, step text not null, record text not null check (json_valid(record)), made_at integer not null,
    primary key (run_id, step)
) strict, without rowid;
