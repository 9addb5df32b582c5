-- Who may ask: API keys and the logins of browsers that showed one; and answers kept so that a request repeated under its Idempotency-Key is not carried out again.
-- Same version numbers and columns as ../postgres, where each column is described.

create table api_key (
    id blob primary key, name text not null, prefix text not null unique, hash blob not null, scopes text not null, created_at integer not null,
    created_by text not null, expires_at integer, last_used_at integer, revoked_at integer
) strict, without rowid;

create table login (
    hash blob primary key, key_id blob not null, created_at integer not null, expires_at integer not null
) strict, without rowid;
create index login_by_expiry on login (expires_at);

create table answered (
    caller text not null, key text not null, request_hash blob not null, claimed_at integer not null, carried_out integer not null default 0,
    status integer, headers text, body blob,
    primary key (caller, key)
) strict, without rowid;
create index answered_by_age on answered (claimed_at);
