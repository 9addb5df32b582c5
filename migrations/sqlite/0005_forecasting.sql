-- Forecasting: one global model per exchange, the market's own return of each session, and the forecasts of those who were not served.
-- Same version numbers and columns as ../postgres, where each column is described.

create table global_model (
    hash text primary key, exchange text not null, recipe text not null, seed integer not null, as_of text not null, cutoff text not null,
    metrics text not null, weights blob, run_id blob, created_at integer not null
) strict;
create index global_model_newest on global_model (exchange, created_at desc);

create table close_seen (
    exchange text not null, session text not null, ticker text not null, change real, seen_at integer not null,
    primary key (exchange, session, ticker)
) strict;

create table market_day (
    exchange text not null, session text not null, mean_return real not null, tickers integer not null, complete integer not null,
    written_at integer not null, primary key (exchange, session)
) strict;

alter table forecast add column served integer not null default 1;
