//! What the database itself says was committed: triggers of the driver's own append a row for every effect, inside the transaction that
//! writes it, to a table that has no key which could hide a second one.

use sqlx::PgPool;

/// The kinds of effect that every run that succeeds must have left exactly once.
pub const KINDS: [&str; 10] = [
    "scrape",
    "finetune",
    "cache",
    "archive",
    "cleanup",
    "effect scrape",
    "effect finetune",
    "effect cache",
    "effect archive",
    "effect cleanup",
];

/// The table and the triggers. `series` carries no run: it is counted for each ticker.
const SETUP: &str = r#"
create table chaos_effect (nth bigserial primary key, about text not null, kind text not null, at timestamptz not null default clock_timestamp());

create function chaos_staged() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (new.run_id::text, 'scrape'); return null; end $$;
create trigger chaos after insert or update on staging for each row execute function chaos_staged();

create function chaos_dropped() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (old.run_id::text, 'cleanup'); return null; end $$;
create trigger chaos_gone after delete on staging for each row execute function chaos_dropped();

create function chaos_run() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (new.id::text, tg_argv[0]); return null; end $$;
create trigger chaos_session after update of session on run for each row execute function chaos_run('finetune');
create trigger chaos_remark after update of reason on run for each row
  when (old.state = new.state and old.verdict is not distinct from new.verdict) execute function chaos_run('cache');

create function chaos_archived() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (new.body_sha256, 'archive'); return null; end $$;
create trigger chaos after insert on price_raw for each row execute function chaos_archived();

create function chaos_series() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (new.exchange || ':' || new.ticker, 'series'); return null; end $$;
create trigger chaos after insert or update on series for each row execute function chaos_series();

create function chaos_proved() returns trigger language plpgsql as $$ begin
  insert into chaos_effect (about, kind) values (new.run_id::text, 'effect ' || new.step); return null; end $$;
create trigger chaos after insert on effect for each row execute function chaos_proved();
"#;

/// Makes them. The schema must be there.
pub async fn make(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(SETUP).execute(pool).await.map(|_| ())
}
