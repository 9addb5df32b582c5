-- Tickers live: new, active, suspended, delisted, renamed, merged; which of them are followed; and the market pages that were read.
-- Same version numbers and columns as ../sqlite. Expand only: an older program goes by ticker.active, which follows from the rest.

alter table ticker add column state text not null default 'new'
    check (state in ('new', 'active', 'suspended', 'delisted', 'renamed', 'merged'));
alter table ticker add column state_since timestamptz;
alter table ticker add column state_why text not null default '';
alter table ticker add column decided_by text not null default 'evidence' check (decided_by in ('evidence', 'operator'));
alter table ticker add column bar_then date;
alter table ticker add column watched_from date;
alter table ticker add column successor text;
alter table ticker add column origin text not null default 'named' check (origin in ('named', 'list', 'page'));
alter table ticker add column followed boolean not null default true;
alter table ticker add column unfollowed_why text not null default '';
update ticker set state = 'active', state_why = 'it has bars',
    bar_then = (select last_session from series where series.exchange = ticker.exchange and series.ticker = ticker.ticker)
    where exists (select 1 from series where series.exchange = ticker.exchange and series.ticker = ticker.ticker);
update ticker set followed = false, unfollowed_why = 'it was inactive before' where not active;
comment on column ticker.active is 'Whether schedules start runs for it: it is followed, and new or active. Written with those two.';
comment on column ticker.state is 'new: known, without a bar. active: traded. suspended: not for a while. delisted: no longer. renamed, merged: see successor. See docs/data.md.';
comment on column ticker.state_since is 'Since when, by the engine clock; null: since it is known.';
comment on column ticker.state_why is 'The evidence, or the operator''s reason.';
comment on column ticker.decided_by is 'evidence, which later evidence may overrule, or operator.';
comment on column ticker.bar_then is 'Its newest bar when the state was decided: a later one brings it back.';
comment on column ticker.watched_from is 'Sessions after this one count as silent ones; null: the next look writes it.';
comment on column ticker.successor is 'EXCHANGE:TICKER under which a renamed or merged one goes on.';
comment on column ticker.origin is 'How it became known. named: by a person or setting. list: by the list file. page: by the market page.';
comment on column ticker.followed is 'Whether the universe of this installation has it.';
comment on column ticker.unfollowed_why is 'Why not.';

create table market_page (
    exchange text not null, source text not null, session date not null, symbols text not null, tickers bigint not null,
    body_sha256 text not null, state text not null check (state in ('taken', 'set_aside', 'confirmed', 'released', 'dismissed')),
    read_at timestamptz not null, noted_at timestamptz not null,
    primary key (exchange, source, session)
);
comment on table market_page is 'Which tickers stood on the page that a source has for all of a session. Written when the page is read; rows are few.';
comment on column market_page.exchange is 'Which market.';
comment on column market_page.source is 'Whose page.';
comment on column market_page.session is 'The trading day that the page names.';
comment on column market_page.symbols is 'The symbols on it, sorted, one space between them.';
comment on column market_page.tickers is 'How many these are.';
comment on column market_page.body_sha256 is 'SHA-256 of the page.';
comment on column market_page.state is 'taken: its rows were. set_aside: it had too few tickers. confirmed: a later reading or page bore it out. released, dismissed: an operator decided.';
comment on column market_page.read_at is 'When these symbols were first read, by the market clock.';
comment on column market_page.noted_at is 'The same by the engine clock.';
