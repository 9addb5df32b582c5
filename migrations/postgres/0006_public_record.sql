-- The public record: every forecast scored against the close that came, skill by session, and alarms. Same version numbers and columns as ../sqlite.
-- Expand only: what an older program reads stays as it was.

alter table forecast add column opens_at timestamptz;
alter table forecast add column made_by text;
alter table forecast add column settled text check (settled in ('scored', 'not_traded', 'no_close', 'superseded'));
alter table forecast add constraint forecast_before_its_session check (kind = 'hindcast' or opens_at is null or issued_at < opens_at) not valid;
create index forecast_open on forecast (exchange, target) where settled is null;
comment on column forecast.opens_at is 'When its target session opens, by the market clock; null for rows of programs before 0.2.';
comment on column forecast.made_by is 'Whose numbers it carries: own, global or baseline; null for rows of programs before 0.2.';
comment on column forecast.settled is 'What became of it; null while its close is not known.';

create table score (
    forecast_id uuid not null, revision bigint not null, newest boolean not null, exchange text not null, ticker text not null,
    session date not null, made_by text not null, served boolean not null, hindcast boolean not null, close double precision not null,
    reference double precision not null, scale double precision not null, error double precision not null,
    naive_error double precision not null, wis double precision not null, wis_ewma double precision not null, wis_eq double precision,
    in80 boolean not null, in95 boolean not null, pit double precision not null, call bigint not null, came bigint not null,
    scored_at timestamptz not null, run_id uuid, primary key (forecast_id, revision)
);
create index score_by_ticker on score (exchange, ticker, session desc) where newest;
create index score_by_session on score (exchange, session) where newest;
comment on table score is 'A forecast beside the close that came. Append-only: a close that was revised gives another revision, and only the newest counts.';
comment on column score.forecast_id is 'The forecast.';
comment on column score.revision is 'From 0, one for each close that it was scored against.';
comment on column score.newest is 'Whether it is the newest revision of its forecast.';
comment on column score.exchange is 'Where it trades.';
comment on column score.ticker is 'Its symbol.';
comment on column score.session is 'The session that the forecast turned out to be about.';
comment on column score.made_by is 'Whose numbers the forecast carries: own, global or baseline.';
comment on column score.served is 'Whether readers got it, as the last word on this session.';
comment on column score.hindcast is 'Whether it was issued after the session opened: kept, and in no statistic.';
comment on column score.close is 'The close that came.';
comment on column score.reference is 'What it is measured against: the last close after corporate actions.';
comment on column score.scale is 'reference ÷ the reference price that the forecast knew; not 1 when nobody had announced an action.';
comment on column score.error is 'Close less point, as a share of the reference.';
comment on column score.naive_error is 'Close less reference, as a share of the reference.';
comment on column score.wis is 'Weighted interval score, as a share of the reference.';
comment on column score.wis_ewma is 'That of the baseline P-EWMA.';
comment on column score.wis_eq is 'That of the baseline P-EQ, where the forecast carries one.';
comment on column score.in80 is 'Whether the 80 % interval held the close.';
comment on column score.in95 is 'Whether the 95 % interval held it.';
comment on column score.pit is 'Place of the close in the forecast''s distribution, 0 to 1.';
comment on column score.call is 'Direction claimed: 1, -1, or 0 for none.';
comment on column score.came is 'Direction that came.';
comment on column score.scored_at is 'By the engine clock.';
comment on column score.run_id is 'The run that scored it.';

create table skill_day (
    exchange text not null, line text not null, session date not null, n bigint not null, squares double precision not null,
    naive_squares double precision not null, wis double precision not null, wis_ewma double precision not null,
    wis_beside_eq double precision not null, wis_eq double precision not null, in80 bigint not null, in95 bigint not null,
    pit double precision not null, calls bigint not null, hits bigint not null, said_up bigint not null, came_up bigint not null,
    primary key (exchange, line, session)
);
comment on table skill_day is 'The newest scores of a session added up, without hindcasts; made anew whenever one of them changes.';
comment on column skill_day.line is 'served, own or global.';
comment on column skill_day.n is 'How many scores.';
comment on column skill_day.squares is 'Sum of squared errors.';
comment on column skill_day.naive_squares is 'Sum of squared naive errors.';
comment on column skill_day.wis is 'Sum of weighted interval scores.';
comment on column skill_day.wis_ewma is 'Sum of those of P-EWMA.';
comment on column skill_day.wis_beside_eq is 'Sum of the scores of forecasts that carry a P-EQ.';
comment on column skill_day.wis_eq is 'Sum of those of P-EQ.';
comment on column skill_day.in80 is 'Closes inside the 80 % interval.';
comment on column skill_day.in95 is 'Closes inside the 95 % interval.';
comment on column skill_day.pit is 'Sum of the places of the closes.';
comment on column skill_day.calls is 'Claims of a direction about closes that moved.';
comment on column skill_day.hits is 'How many of these came true.';
comment on column skill_day.said_up is 'How many claimed a rise.';
comment on column skill_day.came_up is 'How many of these closes rose.';

create table alarm (
    id uuid primary key, exchange text not null, ticker text not null, line text not null, kind text not null, detail text not null,
    session date not null, raised_at timestamptz not null, cleared_at timestamptz, run_id uuid
);
create unique index alarm_open on alarm (exchange, ticker, line, kind) where cleared_at is null;
create index alarm_newest on alarm (raised_at desc);
comment on table alarm is 'What the record is alarmed about, and was.';
comment on column alarm.ticker is 'The symbol; empty when it is about the whole exchange.';
comment on column alarm.line is 'served, own or global; empty when it is about no line of models.';
comment on column alarm.kind is 'The kind, in one word.';
comment on column alarm.detail is 'In words, with numbers; as of the newest look.';
comment on column alarm.session is 'The session whose score raised it.';
comment on column alarm.raised_at is 'By the engine clock.';
comment on column alarm.cleared_at is 'When it no longer held; null while it does.';
comment on column alarm.run_id is 'The run that raised it.';
