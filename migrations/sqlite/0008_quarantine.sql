-- The quarantine: rows and whole batches that are kept apart until somebody or something confirms them; and restated histories.
-- Same version numbers and columns as ../postgres, where each column is described.

create table quarantine (
    id blob primary key, exchange text not null, ticker text not null, session text, rule text not null, why text not null,
    source text not null, run_id blob, open real, high real, low real, close real,
    ltp real, prev_close real, volume real, batch blob, body_sha256 text not null,
    fetched_at integer not null, set_aside_at integer not null, seen_at integer not null, seen integer not null,
    state text not null check (state in ('open', 'released', 'dismissed', 'confirmed', 'overtaken')),
    settled_at integer, settled_by text, settled_why text, archived_version integer
) strict;
create index quarantine_newest on quarantine (set_aside_at desc, id desc);
create index quarantine_by_ticker on quarantine (exchange, ticker, state);
create unique index quarantine_one_batch on quarantine (exchange, ticker, source, rule) where state = 'open' and session is null;

create table restatement (
    exchange text not null, ticker text not null, archived_version integer not null, factor real not null, source text not null,
    run_id blob, noted_at integer not null,
    primary key (exchange, ticker, archived_version)
) strict, without rowid;
