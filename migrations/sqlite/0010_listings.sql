-- Tickers live: new, active, suspended, delisted, renamed, merged; which of them are followed; and the market pages that were read.
-- Same version numbers and columns as ../postgres, where each column is described.

alter table ticker add column state text not null default 'new'
    check (state in ('new', 'active', 'suspended', 'delisted', 'renamed', 'merged'));
alter table ticker add column state_since integer;
alter table ticker add column state_why text not null default '';
alter table ticker add column decided_by text not null default 'evidence' check (decided_by in ('evidence', 'operator'));
alter table ticker add column bar_then text;
alter table ticker add column watched_from text;
alter table ticker add column successor text;
alter table ticker add column origin text not null default 'named' check (origin in ('named', 'list', 'page'));
alter table ticker add column followed integer not null default 1;
alter table ticker add column unfollowed_why text not null default '';
update ticker set state = 'active', state_why = 'it has bars',
    bar_then = (select last_session from series where series.exchange = ticker.exchange and series.ticker = ticker.ticker)
    where exists (select 1 from series where series.exchange = ticker.exchange and series.ticker = ticker.ticker);
update ticker set followed = 0, unfollowed_why = 'it was inactive before' where not active;

create table market_page (
    exchange text not null, source text not null, session text not null, symbols text not null, tickers integer not null,
    body_sha256 text not null, state text not null check (state in ('taken', 'set_aside', 'confirmed', 'released', 'dismissed')),
    read_at integer not null, noted_at integer not null,
    primary key (exchange, source, session)
) strict, without rowid;
