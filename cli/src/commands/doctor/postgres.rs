//! PostgreSQL: reachable, encrypted, new enough, with our schema, with the rights, the time and the connections that we need, and durable.

use super::item::Item;
use crate::settings::Settings;
use workflows::db::StoreError;
use workflows::probe::{PostgresAddress, PostgresFacts, SchemaState};
use workflows::unreached::Unreached;

/// The oldest version that the tests know.
const OLDEST: i32 = 140_000;
/// Beside the pool a process holds one connection for its leases and one for its lock.
const BESIDE_THE_POOL: i64 = 2;

/// Looks at the server, where there is to be one.
pub async fn look(settings: &Settings) -> Vec<Item> {
    let Some(url) = &settings.database_url else { return Vec::new() };
    let address = match workflows::probe::postgres_address(url) {
        Ok(address) => address,
        Err(error) => return vec![Item::problem("postgres", error.to_string(), "correct database_url")],
    };
    match workflows::probe::postgres(url).await {
        Ok(facts) => judge(&address, &facts, settings.database_connections),
        Err(error) => vec![unreached(&address, &error)],
    }
}

fn unreached(address: &PostgresAddress, error: &StoreError) -> Item {
    let (said, cause) = match error {
        StoreError::Database { doing, source } => {
            (format!("it could not {doing}: {source}"), Unreached::of_postgres(source))
        }
        other => (other.to_string(), None),
    };
    let advice = cause.map_or("see the server's log for the reason", Unreached::advice);
    Item::problem("postgres", format!("{}: {said}", address.at), advice)
}

fn judge(address: &PostgresAddress, facts: &PostgresFacts, pool: u32) -> Vec<Item> {
    vec![
        reachable(address, facts),
        tls(address, facts),
        version(facts),
        schema("postgres_schema", &facts.schema, false),
        rights(facts),
        clock(facts),
        connections(facts, i64::from(pool)),
        durability(facts),
    ]
}

fn reachable(address: &PostgresAddress, facts: &PostgresFacts) -> Item {
    if facts.is_read_only {
        return Item::problem(
            "postgres",
            format!("{} answers, but refuses to be written: it is a standby, or set to read-only", address.at),
            "name the primary server in database_url",
        );
    }
    Item::ok("postgres", format!("{} answers", address.at))
}

fn tls(address: &PostgresAddress, facts: &PostgresFacts) -> Item {
    let advice = "add sslmode=verify-full&sslrootcert=FILE to database_url";
    match &facts.tls {
        Some(cipher) if address.checks_identity => {
            Item::ok("postgres_tls", format!("encrypted ({cipher}), server checked"))
        }
        Some(cipher) if address.is_local => Item::ok("postgres_tls", format!("encrypted ({cipher})")),
        Some(cipher) => Item::warning(
            "postgres_tls",
            format!("encrypted ({cipher}), but nobody checks that the server is the right one"),
            advice,
        ),
        None if address.is_local => Item::ok("postgres_tls", "not encrypted; the connection stays on this machine"),
        None => {
            Item::warning("postgres_tls", "not encrypted: password and prices cross the network in the clear", advice)
        }
    }
}

fn version(facts: &PostgresFacts) -> Item {
    if facts.version < OLDEST {
        return Item::problem("postgres_version", facts.version_text.clone(), "use PostgreSQL 14 or newer");
    }
    Item::ok("postgres_version", facts.version_text.clone())
}

/// How a schema is; the embedded store brings itself up to date.
pub fn schema(check: &'static str, state: &SchemaState, heals_itself: bool) -> Item {
    let list = |versions: &[i64]| versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    if !state.newer.is_empty() {
        return Item::problem(
            check,
            format!("a newer version of this program has been here (migrations {})", list(&state.newer)),
            "use that version, or restore a backup from before it",
        );
    }
    if !state.changed.is_empty() {
        return Item::problem(
            check,
            format!("migrations {} were applied with another text than this program's", list(&state.changed)),
            "use the version that applied them; this one does not know what the tables look like",
        );
    }
    match (state.missing, heals_itself) {
        (0, _) => Item::ok(check, "up to date"),
        (n, true) => Item::ok(check, format!("{n} migrations are missing and are applied at the next start")),
        (n, false) => Item::problem(check, format!("{n} migrations are missing"), "run `retainai migrate`"),
    }
}

fn rights(facts: &PostgresFacts) -> Item {
    if facts.forbidden_tables > 0 {
        return Item::problem(
            "postgres_rights",
            format!("{} tables cannot be read and written by this user", facts.forbidden_tables),
            "grant select, insert, update, delete on all tables in the schema to this user",
        );
    }
    match (facts.may_create, facts.schema.missing) {
        (true, _) => Item::ok("postgres_rights", "tables can be read, written and made"),
        (false, 0) => Item::warning(
            "postgres_rights",
            "tables can be read and written, but not made",
            "run `retainai migrate` of later versions as a user who may create tables",
        ),
        (false, _) => Item::problem(
            "postgres_rights",
            "this user may not make tables, and tables are missing",
            "grant create on the schema (`grant create on schema public to USER`), or migrate as another user",
        ),
    }
}

/// Leases go by the server's clock; sessions go by this machine's.
fn clock(facts: &PostgresFacts) -> Item {
    let ahead_s = facts.clock_ahead_us as f64 / 1e6;
    let found = format!("the server's clock is {ahead_s:+.3} s from this machine's");
    let advice = "keep both machines' clocks right with NTP";
    match ahead_s.abs() {
        0.0..2.0 => Item::ok("postgres_clock", found),
        2.0..60.0 => Item::warning("postgres_clock", found, advice),
        _ => Item::problem("postgres_clock", found, advice),
    }
}

/// API, scheduler and one worker are the least that runs.
fn connections(facts: &PostgresFacts, pool: i64) -> Item {
    let each = pool + BESIDE_THE_POOL;
    let found = format!(
        "{} for users like this one, {} open now; each of our processes takes up to {each}",
        facts.connections, facts.connections_used
    );
    let advice = "raise max_connections of the server, or lower database_connections";
    match facts.connections / each {
        0 => Item::problem("postgres_connections", found, advice),
        1..3 => Item::warning("postgres_connections", found, advice),
        _ => Item::ok("postgres_connections", found),
    }
}

fn durability(facts: &PostgresFacts) -> Item {
    if !facts.fsync {
        return Item::problem(
            "postgres_durability",
            "fsync is off: a power cut may destroy the whole database",
            "set fsync = on and restart the server",
        );
    }
    if facts.synchronous_commit == "off" {
        return Item::warning(
            "postgres_durability",
            "synchronous_commit is off: a crash may lose the last moments, and their steps are done again",
            "set synchronous_commit = on",
        );
    }
    Item::ok("postgres_durability", format!("fsync on, synchronous_commit {}", facts.synchronous_commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::item::State;

    fn facts() -> PostgresFacts {
        PostgresFacts {
            version: 150_004,
            version_text: "15.4".into(),
            tls: None,
            schema: SchemaState::default(),
            may_create: true,
            forbidden_tables: 0,
            clock_ahead_us: 1_000,
            connections: 97,
            connections_used: 3,
            synchronous_commit: "on".into(),
            fsync: true,
            is_read_only: false,
        }
    }

    fn states(change: impl FnOnce(&mut PostgresFacts), is_local: bool, pool: u32) -> Vec<(&'static str, State)> {
        let mut facts = facts();
        change(&mut facts);
        let address = PostgresAddress { at: "db:5432/x".into(), is_local, checks_identity: false };
        let found = judge(&address, &facts, pool);
        assert!(found.iter().all(|item| (item.state == State::Ok) == item.advice.is_empty()), "{found:#?}");
        found.iter().filter(|item| item.state != State::Ok).map(|item| (item.check, item.state)).collect()
    }

    #[test]
    fn each_fault_has_its_word_and_its_weight() {
        use State::{Problem, Warning};
        assert_eq!(states(|_| {}, true, 16), []);
        assert_eq!(states(|_| {}, false, 16), [("postgres_tls", Warning)]);
        assert_eq!(states(|f| f.version = 130_011, true, 16), [("postgres_version", Problem)]);
        assert_eq!(states(|f| f.schema.missing = 1, true, 16), [("postgres_schema", Problem)]);
        assert_eq!(states(|f| f.schema.newer = vec![9], true, 16), [("postgres_schema", Problem)]);
        assert_eq!(states(|f| f.schema.changed = vec![1], true, 16), [("postgres_schema", Problem)]);
        assert_eq!(states(|f| f.may_create = false, true, 16), [("postgres_rights", Warning)]);
        assert_eq!(states(|f| f.forbidden_tables = 2, true, 16), [("postgres_rights", Problem)]);
        assert_eq!(states(|f| f.clock_ahead_us = -5_000_000, true, 16), [("postgres_clock", Warning)]);
        assert_eq!(states(|f| f.clock_ahead_us = 90_000_000, true, 16), [("postgres_clock", Problem)]);
        assert_eq!(states(|_| {}, true, 40), [("postgres_connections", Warning)]);
        assert_eq!(states(|_| {}, true, 200), [("postgres_connections", Problem)]);
        assert_eq!(states(|f| f.fsync = false, true, 16), [("postgres_durability", Problem)]);
        assert_eq!(states(|f| f.synchronous_commit = "off".into(), true, 16), [("postgres_durability", Warning)]);
        assert_eq!(states(|f| f.is_read_only = true, true, 16), [("postgres", Problem)]);
    }
}
