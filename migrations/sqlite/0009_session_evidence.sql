-- The calendar's evidence beside the bars: what an operator says of a day, and what the sources did not have by the end of an evening.
-- Same version numbers and columns as ../postgres, where each column is described.

create table session_evidence (
    exchange text not null, session text not null, basis text not null check (basis in ('operator', 'sources')),
    state text not null check (state in ('open', 'closed')), evidence text not null, noted_by text not null, noted_at integer not null,
    primary key (exchange, session, basis)
) strict, without rowid;
