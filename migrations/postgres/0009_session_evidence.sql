-- The calendar's evidence beside the bars: what an operator says of a day, and what the sources did not have by the end of an evening.
-- Same version numbers and columns as ../sqlite. Expand only: `session` stays the days that were seen in data, for an older program takes each of its
-- rows for a trading day and would score forecasts against a day that is only known to be closed.

create table session_evidence (
    exchange text not null, session date not null, basis text not null check (basis in ('operator', 'sources')),
    state text not null check (state in ('open', 'closed')), evidence text not null, noted_by text not null, noted_at timestamptz not null,
    primary key (exchange, session, basis)
);
comment on table session_evidence is 'What is said of a day beside the bars of it (table session). operator stands above everything; a bar stands above sources. See docs/data.md.';
comment on column session_evidence.exchange is 'Whose day.';
comment on column session_evidence.session is 'The day, in the exchange''s zone.';
comment on column session_evidence.basis is 'operator: an override, which can be taken back. sources: every source was asked in the evening and showed an earlier session.';
comment on column session_evidence.state is 'Whether the exchange trades.';
comment on column session_evidence.evidence is 'The operator''s reason, or what was seen, in words.';
comment on column session_evidence.noted_by is 'Who said so; the audit has more.';
comment on column session_evidence.noted_at is 'By the engine clock.';
comment on table session is 'Trading days that were seen in data: the observed part of the calendar. What is said of days beside it stands in session_evidence.';
comment on column session.exchange is 'Whose day.';
comment on column session.session is 'The day, in the exchange''s zone.';
comment on column session.evidence is 'The first bar of it: of which ticker, from which source.';
comment on column session.observed_at is 'When that was archived, by the engine clock.';
