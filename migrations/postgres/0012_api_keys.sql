-- Who may ask: API keys and the logins of browsers that showed one; and answers kept so that a request repeated under its Idempotency-Key is not carried out again.
-- New tables only: older programs do not see them.

create table api_key (
    id uuid primary key, name text not null, prefix text not null unique, hash bytea not null, scopes text not null, created_at timestamptz not null,
    created_by text not null, expires_at timestamptz, last_used_at timestamptz, revoked_at timestamptz
);
comment on table api_key is 'Keys of the API. The key itself is shown once and kept nowhere.';
comment on column api_key.id is 'Time-ordered; the bootstrap key has a fixed one, so that two processes cannot make two.';
comment on column api_key.name is 'For people.';
comment on column api_key.prefix is 'The part of the key by which it is found; no secret.';
comment on column api_key.hash is 'SHA-256 of the whole key, which holds 256 random bits.';
comment on column api_key.scopes is 'Words separated by spaces: forecasts:read, runs:read, runs:write, admin.';
comment on column api_key.created_at is 'By the engine clock.';
comment on column api_key.created_by is 'Who made it.';
comment on column api_key.expires_at is 'From then on it is refused; null: never.';
comment on column api_key.last_used_at is 'The newest use, as exactly as a minute.';
comment on column api_key.revoked_at is 'From then on it is refused; null: it is not revoked.';

create table login (
    hash bytea primary key, key_id uuid not null, created_at timestamptz not null, expires_at timestamptz not null
);
create index login_by_expiry on login (expires_at);
comment on table login is 'Browsers that showed a key and carry a cookie instead.';
comment on column login.hash is 'SHA-256 of the cookie''s value, which holds 256 random bits.';
comment on column login.key_id is 'The key that was shown; a login lasts no longer than its key.';
comment on column login.created_at is 'By the engine clock.';
comment on column login.expires_at is 'From then on it is refused, and its row may go.';

create table answered (
    caller text not null, key text not null, request_hash bytea not null, claimed_at timestamptz not null,
    carried_out boolean not null default false, status integer, headers text, body bytea,
    primary key (caller, key)
);
create index answered_by_age on answered (claimed_at);
comment on table answered is 'Requests under an Idempotency-Key and what they were answered. Rows go after a day.';
comment on column answered.caller is 'Who asked: keys of different callers do not meet.';
comment on column answered.key is 'The Idempotency-Key.';
comment on column answered.request_hash is 'SHA-256 of method, path and body: another request under the same key is refused.';
comment on column answered.claimed_at is 'When it was taken up, by the engine clock.';
comment on column answered.carried_out is 'Whether it has had its effect: written in one transaction with it, and with the audit.';
comment on column answered.status is 'The status of the answer; null while it is under way, and where the answer is not kept.';
comment on column answered.headers is 'Location and Content-Type, a JSON object.';
comment on column answered.body is 'The body of the answer.';
