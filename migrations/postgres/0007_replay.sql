-- Replaying past runs: what each step's result was made with, and which prices, corporate actions and market returns were known at a time.
-- Same version numbers and columns as ../sqlite. Expand only: what an older program reads stays as it was.

alter table price_raw add column archived_version bigint;
comment on column price_raw.archived_version is 'The ticker''s series version that brought this row; null: archived before this was recorded. The chosen bar at a version is that of the greatest one up to it.';

create table corporate_action_raw (
    exchange text not null, ticker text not null, session date not null, archived_version bigint not null, factor double precision not null,
    source text not null, announced_at timestamptz not null,
    primary key (exchange, ticker, session, archived_version)
);
insert into corporate_action_raw (exchange, ticker, session, archived_version, factor, source, announced_at)
    select exchange, ticker, session, 0, factor, source, announced_at from corporate_action;
comment on table corporate_action_raw is 'Every version of every corporate action. Append-only: a changed factor is a new row, an identical one nothing.';
comment on column corporate_action_raw.exchange is 'Where the ticker trades.';
comment on column corporate_action_raw.ticker is 'Its symbol.';
comment on column corporate_action_raw.session is 'The ex-date.';
comment on column corporate_action_raw.archived_version is 'The ticker''s series version that brought it; 0: archived before this was recorded.';
comment on column corporate_action_raw.factor is 'Reference price = previous close x factor on this session.';
comment on column corporate_action_raw.source is 'Who said so.';
comment on column corporate_action_raw.announced_at is 'When we were told, by the engine clock.';

create table market_day_replaced (
    exchange text not null, session date not null, mean_return double precision not null, tickers bigint not null, written_at timestamptz not null,
    primary key (exchange, session, written_at)
);
comment on table market_day_replaced is 'Rows of market_day as they were before a pre-training filled them in: forecasts were made from them.';
comment on column market_day_replaced.exchange is 'Which market.';
comment on column market_day_replaced.session is 'Which session.';
comment on column market_day_replaced.mean_return is 'What stood there.';
comment on column market_day_replaced.tickers is 'From how many tickers.';
comment on column market_day_replaced.written_at is 'When it had been written, by the engine clock.';

create table made_with (
    run_id uuid not null, step text not null, record jsonb not null, made_at timestamptz not null,
    primary key (run_id, step)
);
comment on table made_with is 'What a step''s result was made with, so that it can be made again. Stays when its run is put away, as models and forecasts do.';
comment on column made_with.run_id is 'The run.';
comment on column made_with.step is 'The step of it.';
comment on column made_with.record is 'Versions of program, kernel, recipe and series, seed, hashes of models and inputs, and what was made; see workflows/src/stores/made_with.rs.';
comment on column made_with.made_at is 'When the step was completed, by the engine clock: it read nothing that was committed later.';
