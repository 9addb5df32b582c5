//! Redis: the one that carries the queues must keep every key and belong to us; the one that keeps copies should not take its memory.

use super::item::{Item, size};
use crate::settings::Settings;
use std::time::Duration;
use workflows::queue::server_check::{RedisFacts, Seen, acl_rules, look};
use workflows::queue::{QueueError, RedisServer};
use workflows::unreached::Unreached;

/// The oldest version with the commands that apalis' scripts use (ZADD GT).
const OLDEST: (u32, u32) = (6, 2);
/// How long the Redis of the copies waits for the other one's answer.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the Redis of the queues, where there is to be one.
pub async fn queue(settings: &Settings) -> Vec<Item> {
    let Some(server) = settings.redis() else { return Vec::new() };
    let seen = match look(server, &settings.redis_prefix).await {
        Ok(seen) => seen,
        Err(error) => return vec![unreached("redis", &error, &settings.redis_prefix)],
    };
    let mut items = vec![reachable(server, &seen), version(&seen.facts), policy(&seen.facts), persistence(&seen.facts)];
    items.push(memory(&seen.facts));
    items.push(match installation(settings).await {
        Some(ours) => namespace(&settings.redis_prefix, seen.installation.as_deref(), &ours.to_string()),
        None => Item::ok("redis_namespace", format!("prefix `{}`", settings.redis_prefix)),
    });
    items
}

/// Which ledger this is, where it answers and has its tables.
async fn installation(settings: &Settings) -> Option<uuid::Uuid> {
    let db = workflows::Db::postgres(settings.database_url.as_deref()?, 1).ok()?;
    tokio::time::timeout(QUEUE_PATIENCE, db.installation()).await.ok()?.ok()
}

/// Looks at the Redis that keeps copies.
pub async fn cache(settings: &Settings) -> Vec<Item> {
    let (Some(server), Some(queue)) = (settings.cache_redis(), settings.redis()) else { return Vec::new() };
    let prefix = &settings.redis_prefix;
    // Two URLs may lead to one server. A queue server that hangs must not hold up this answer.
    let (seen, of_queue) =
        tokio::join!(look(server, prefix), tokio::time::timeout(QUEUE_PATIENCE, look(queue, prefix)));
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return vec![unreached("cache", &error, prefix)],
    };
    let of_queue = of_queue.ok().and_then(Result::ok).and_then(|queue| queue.facts.run_id);
    let is_same = server.url == queue.url || (of_queue.is_some() && of_queue == seen.facts.run_id);
    vec![copies(&seen, is_same)]
}

fn unreached(check: &'static str, error: &QueueError, prefix: &str) -> Item {
    let QueueError::Redis { at, doing, why, cause } = error else {
        return Item::problem(check, error.to_string(), "correct the setting");
    };
    let advice = match cause {
        Some(Unreached::Rights) => {
            format!("allow the user what it needs: `ACL SETUSER USER {}`", acl_rules(prefix).join(" "))
        }
        Some(cause) => cause.advice().to_owned(),
        None => "see the server's log for the reason".to_owned(),
    };
    Item::problem(check, format!("{at}: it could not {doing}: {why}"), advice)
}

fn reachable(server: RedisServer<'_>, seen: &Seen) -> Item {
    let at = &seen.at;
    if seen.facts.is_replica {
        return Item::problem(
            "redis",
            format!("{at} is a replica and refuses to be written"),
            "name the primary in redis_url",
        );
    }
    if seen.facts.is_cluster {
        return Item::problem(
            "redis",
            format!("{at} is part of a cluster, where the keys of one queue would be torn apart"),
            "use a single Redis for the queues",
        );
    }
    let is_local = ["127.", "localhost", "[::1]", "::1", "/"].iter().any(|local| at.starts_with(local));
    if server.url.starts_with("rediss://") {
        Item::ok("redis", format!("{at} answers, encrypted"))
    } else if is_local {
        Item::ok("redis", format!("{at} answers; not encrypted, the connection stays on this machine"))
    } else {
        Item::warning("redis", format!("{at} answers, not encrypted"), "use rediss:// with a user of its own")
    }
}

fn version(facts: &RedisFacts) -> Item {
    let Some(text) = &facts.version else {
        return Item::warning(
            "redis_version",
            "this user may not ask for it",
            "allow the user INFO (ACL SETUSER … +info)",
        );
    };
    let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        return Item::problem("redis_version", text.clone(), "use Redis 6.2 or newer");
    }
    Item::ok("redis_version", text.clone())
}

fn policy(facts: &RedisFacts) -> Item {
    const ADVICE: &str = "run `redis-cli CONFIG SET maxmemory-policy noeviction` and write it into redis.conf";
    if let Some((policy, limit)) = facts.evicts() {
        let found = format!(
            "maxmemory-policy is `{policy}` with a limit of {}: queued messages may be thrown away, and the roles refuse to start",
            size(limit)
        );
        return Item::problem("redis_policy", found, ADVICE);
    }
    match facts.policy.as_deref() {
        Some("noeviction") => Item::ok("redis_policy", "noeviction"),
        Some(other) => Item::warning("redis_policy", format!("`{other}`, harmless only while no limit is set"), ADVICE),
        None => Item::warning(
            "redis_policy",
            "this user may not ask for it",
            "see that maxmemory-policy is noeviction, or allow the user INFO",
        ),
    }
}

fn persistence(facts: &RedisFacts) -> Item {
    match facts.append_only {
        Some(true) => Item::ok("redis_persistence", "appendonly is on"),
        Some(false) => Item::warning(
            "redis_persistence",
            "appendonly is off: after a restart the queues are empty until the ledger has filled them again; nothing is lost",
            "run `redis-cli CONFIG SET appendonly yes` and write it into redis.conf",
        ),
        None => Item::ok("redis_persistence", "this user may not ask for it; nothing depends on it"),
    }
}

fn memory(facts: &RedisFacts) -> Item {
    let (used, limit) = (facts.used_memory.unwrap_or(0), facts.max_memory.unwrap_or(0));
    if limit == 0 {
        return Item::ok("redis_memory", format!("{} used, no limit", size(used)));
    }
    let found = format!("{} used of {}", size(used), size(limit));
    match used * 10 / limit {
        0..8 => Item::ok("redis_memory", found),
        8..10 => Item::warning("redis_memory", found, "raise maxmemory before it is full"),
        _ => Item::problem("redis_memory", found, "raise maxmemory: a full Redis takes no messages"),
    }
}

fn namespace(prefix: &str, standing: Option<&str>, ours: &str) -> Item {
    match standing {
        None => Item::ok("redis_namespace", format!("the prefix `{prefix}` is free")),
        Some(id) if id == ours => Item::ok("redis_namespace", format!("the prefix `{prefix}` is ours")),
        Some(other) => Item::problem(
            "redis_namespace",
            format!(
                "the prefix `{prefix}` belongs to another installation ({other}; this one is {ours}), and the roles refuse to start"
            ),
            format!(
                "set redis_prefix (RETAINAI_REDIS_PREFIX) to a name of its own; if that installation is gone for good, delete the key `{prefix}:installation`"
            ),
        ),
    }
}

fn copies(seen: &Seen, is_same: bool) -> Item {
    let (at, facts) = (&seen.at, &seen.facts);
    let limit = facts.max_memory.filter(|limit| *limit > 0);
    match (is_same, limit) {
        (true, Some(limit)) => Item::warning(
            "cache",
            format!(
                "{at} carries the queues too and has a limit of {}: copies take the memory that messages need",
                size(limit)
            ),
            "give the copies a Redis of their own (cache_redis_url) with maxmemory-policy allkeys-lru",
        ),
        (true, None) => Item::ok("cache", format!("{at}, the server of the queues; copies end by themselves")),
        (false, Some(limit)) if facts.policy.as_deref() == Some("noeviction") => Item::warning(
            "cache",
            format!("{at} answers; with noeviction and a limit of {} it takes no copies once it is full", size(limit)),
            "run `redis-cli CONFIG SET maxmemory-policy allkeys-lru` on it",
        ),
        (false, _) => Item::ok("cache", format!("{at} answers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::item::State;

    fn facts(policy: &str, max_memory: u64) -> RedisFacts {
        let version = Some("7.0.15".to_owned());
        RedisFacts { policy: Some(policy.into()), max_memory: Some(max_memory), version, ..RedisFacts::default() }
    }

    #[test]
    fn a_queue_must_keep_its_keys() {
        assert_eq!(policy(&facts("noeviction", 5)).state, State::Ok);
        assert_eq!(policy(&facts("allkeys-lru", 0)).state, State::Warning);
        assert_eq!(policy(&facts("allkeys-lru", 5)).state, State::Problem);
        assert_eq!(policy(&RedisFacts::default()).state, State::Warning);
    }

    #[test]
    fn old_full_and_foreign_are_problems() {
        assert_eq!(
            version(&RedisFacts { version: Some("6.0.16".into()), ..facts("noeviction", 0) }).state,
            State::Problem
        );
        assert_eq!(version(&facts("noeviction", 0)).state, State::Ok);
        let used = |used| RedisFacts { used_memory: Some(used), ..facts("noeviction", 100) };
        assert_eq!([5, 85, 100].map(|n| memory(&used(n)).state), [State::Ok, State::Warning, State::Problem]);
        assert_eq!(namespace("p", Some("a"), "b").state, State::Problem);
        assert_eq!(namespace("p", Some("a"), "a").state, State::Ok);
    }

    #[test]
    fn copies_should_not_crowd_out_messages() {
        let seen = |facts| Seen { at: "h:1".into(), facts, installation: None };
        assert_eq!(copies(&seen(facts("noeviction", 5)), true).state, State::Warning);
        assert_eq!(copies(&seen(facts("noeviction", 0)), true).state, State::Ok);
        assert_eq!(copies(&seen(facts("noeviction", 5)), false).state, State::Warning);
        assert_eq!(copies(&seen(facts("allkeys-lru", 5)), false).state, State::Ok);
    }
}
