-- Forecasting: one global model per exchange, the market's own return of each session, and the forecasts of those who were not served.
-- Same version numbers and columns as ../sqlite. Expand only: what an older program reads stays as it was.

create table global_model (
    hash text primary key, exchange text not null, recipe text not null, seed bigint not null, as_of date not null, cutoff date not null,
    metrics jsonb not null, weights bytea, run_id uuid, created_at timestamptz not null
);
create index global_model_newest on global_model (exchange, created_at desc);
comment on table global_model is 'The models that all tickers of an exchange share. Rows stay for good; weights of the newest four are kept.';
comment on column global_model.hash is 'SHA-256 of the weights file, hex.';
comment on column global_model.recipe is 'Name and version of the recipe.';
comment on column global_model.seed is 'Seed of its training.';
comment on column global_model.as_of is 'Newest session that existed when it was trained.';
comment on column global_model.cutoff is 'Newest session that it has learnt from; later ones chose the epoch and calibrate.';
comment on column global_model.metrics is 'What training measured.';
comment on column global_model.weights is 'The safetensors file.';
comment on column global_model.run_id is 'The run that trained it.';
comment on column global_model.created_at is 'By the engine clock; the newest serves.';

create table close_seen (
    exchange text not null, session date not null, ticker text not null, change double precision, seen_at timestamptz not null,
    primary key (exchange, session, ticker)
);
comment on table close_seen is 'What each ticker adds to the market''s return of a session that is not complete yet; deleted once the session has its row in market_day.';
comment on column close_seen.change is 'Log return against the reference price, clipped; null: its source was asked, and it did not trade.';
comment on column close_seen.seen_at is 'By the engine clock; the first of a session begins its deadline.';

create table market_day (
    exchange text not null, session date not null, mean_return double precision not null, tickers bigint not null, complete boolean not null,
    written_at timestamptz not null, primary key (exchange, session)
);
comment on table market_day is 'The market''s return of a session: an input of every forecast made after it. Written once.';
comment on column market_day.mean_return is 'Equal-weight mean of the clipped log returns of the tickers that traded.';
comment on column market_day.tickers is 'How many these were; with fewer than five the market counts as unknown.';
comment on column market_day.complete is 'Whether nine of ten tickers that traded in the session before had been seen; false: the deadline came first.';

alter table forecast add column served boolean not null default true;
comment on column forecast.served is 'False for what a challenger said: stored beside the served one, before the outcome, and scored like it.';
