-- The quarantine: rows and whole batches that are kept apart until somebody or something confirms them; and restated histories.
-- Same version numbers and columns as ../sqlite. Expand only: what an older program reads stays as it was.

create table quarantine (
    id uuid primary key, exchange text not null, ticker text not null, session date, rule text not null, why text not null,
    source text not null, run_id uuid, open double precision, high double precision, low double precision, close double precision,
    ltp double precision, prev_close double precision, volume double precision, batch bytea, body_sha256 text not null,
    fetched_at timestamptz not null, set_aside_at timestamptz not null, seen_at timestamptz not null, seen bigint not null,
    state text not null check (state in ('open', 'released', 'dismissed', 'confirmed', 'overtaken')),
    settled_at timestamptz, settled_by text, settled_why text, archived_version bigint
);
create index quarantine_newest on quarantine (set_aside_at desc, id desc);
create index quarantine_by_ticker on quarantine (exchange, ticker, state);
create unique index quarantine_one_batch on quarantine (exchange, ticker, source, rule) where state = 'open' and session is null;
comment on table quarantine is 'Rows, and whole batches of a ticker, that broke a rule: not staged, not archived, not trained on. See docs/data.md.';
comment on column quarantine.id is 'Follows from the values of a row, so that the same row is set aside once.';
comment on column quarantine.exchange is 'Where the ticker trades.';
comment on column quarantine.ticker is 'Its symbol.';
comment on column quarantine.session is 'The trading day of the row; null: a whole batch.';
comment on column quarantine.rule is 'The rule that it broke, in one word.';
comment on column quarantine.why is 'What was found, in words with numbers.';
comment on column quarantine.source is 'Who gave it.';
comment on column quarantine.run_id is 'The run that scraped it; null: an import.';
comment on column quarantine.open is 'As given.';
comment on column quarantine.high is 'As given.';
comment on column quarantine.low is 'As given.';
comment on column quarantine.close is 'As given.';
comment on column quarantine.ltp is 'As given.';
comment on column quarantine.prev_close is 'As given.';
comment on column quarantine.volume is 'As given.';
comment on column quarantine.batch is 'The whole batch (gzipped JSON) where it was set aside as a whole; null where the source kept it to itself.';
comment on column quarantine.body_sha256 is 'SHA-256 of the page or file.';
comment on column quarantine.fetched_at is 'By the market clock.';
comment on column quarantine.set_aside_at is 'By the engine clock.';
comment on column quarantine.seen_at is 'When it came last, by the engine clock.';
comment on column quarantine.seen is 'How often it came.';
comment on column quarantine.state is 'open: it waits. released, dismissed: an operator decided. confirmed: later data did. overtaken: a later batch agrees with the archive.';
comment on column quarantine.settled_at is 'When it stopped waiting, by the engine clock.';
comment on column quarantine.settled_by is 'Who or what ended it.';
comment on column quarantine.settled_why is 'Why, in words.';
comment on column quarantine.archived_version is 'The ticker''s series version that brought its values into the archive; null where none did.';

create table restatement (
    exchange text not null, ticker text not null, archived_version bigint not null, factor double precision not null, source text not null,
    run_id uuid, noted_at timestamptz not null,
    primary key (exchange, ticker, archived_version)
);
comment on table restatement is 'Histories that were replaced as a whole, by one factor. What stood before is kept in price_raw as earlier revisions.';
comment on column restatement.exchange is 'Where the ticker trades.';
comment on column restatement.ticker is 'Its symbol.';
comment on column restatement.archived_version is 'The series version before the new history was laid over it: closes up to it are on the old level.';
comment on column restatement.factor is 'New close = old close x factor.';
comment on column restatement.source is 'Who restated it.';
comment on column restatement.run_id is 'The run that scraped it; null: an import.';
comment on column restatement.noted_at is 'By the engine clock.';
