//! Whether a Redis may carry our queues: it must not throw keys away, and no other installation may use the same prefix. In come what the
//! server says of itself and our installation's id, out goes a refusal that names the setting, or warnings.

use super::connection::{CONNECTION_TIMEOUT, RedisServer, address, client};
use super::{QueueError, RedisQueue};
use crate::unreached::Unreached;
use redis::AsyncConnectionConfig;
use redis::aio::ConnectionLike;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// The least that an ACL user needs to carry queues under `prefix`, as arguments of ACL SETUSER: our keys and channel, one key of the
/// carrier's library, and of the dangerous commands only INFO.
pub fn acl_rules(prefix: &str) -> [String; 7] {
    [
        format!("~{prefix}*"),
        "~core:apalis:*".to_owned(),
        format!("&{prefix}:*"),
        "+@all".to_owned(),
        "-@admin".to_owned(),
        "-@dangerous".to_owned(),
        "+info".to_owned(),
    ]
}

/// Why this Redis must not carry our queues, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerCheckError {
    /// It could not be asked; asking again may help.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// It throws keys away when its memory is full.
    #[error(
        "the Redis at {at} may throw queued messages away: its memory is limited (maxmemory {max_memory} bytes) and its setting maxmemory-policy is `{policy}`. Run `redis-cli CONFIG SET maxmemory-policy noeviction` and write the same into redis.conf, or give the queues a Redis of their own (redis_url)"
    )]
    Evicts {
        /// Which Redis.
        at: String,
        /// Its policy.
        policy: String,
        /// Its limit.
        max_memory: u64,
    },
    /// The prefix belongs to another installation.
    #[error(
        "the Redis at {at} carries the queues of another installation ({theirs}) under the prefix `{prefix}`; this one is {ours}. Set redis_prefix (RETAINAI_REDIS_PREFIX) to a name of its own, or use another Redis. If that installation is gone for good, delete the key `{prefix}:installation`"
    )]
    Foreign {
        /// Which Redis.
        at: String,
        /// The prefix that both use.
        prefix: String,
        /// The id that stands there.
        theirs: String,
        /// The id of our ledger.
        ours: Uuid,
    },
}

impl ServerCheckError {
    /// Whether asking again would answer the same: somebody must change a setting first.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, ServerCheckError::Queue(_))
    }
}

/// What a Redis says of itself. `None`: the user may not ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisFacts {
    /// For example `7.0.15`.
    pub version: Option<String>,
    /// Different for every start of a server: tells whether two URLs lead to one.
    pub run_id: Option<String>,
    /// Whether it follows another server and refuses to be written.
    pub is_replica: bool,
    /// Whether it is part of a cluster.
    pub is_cluster: bool,
    /// What it does when its memory is full.
    pub policy: Option<String>,
    /// Its limit in bytes; 0: none.
    pub max_memory: Option<u64>,
    /// What it uses, in bytes.
    pub used_memory: Option<u64>,
    /// Whether every write is appended to a file.
    pub append_only: Option<bool>,
}

impl RedisFacts {
    /// What INFO says.
    pub fn from_info(text: &str) -> Self {
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |key: &str| fields.get(key).map(|value| (*value).to_owned());
        let number = |key: &str| fields.get(key).and_then(|value| value.parse::<u64>().ok());
        Self {
            version: text("redis_version"),
            run_id: text("run_id"),
            is_replica: fields.get("role") == Some(&"slave"),
            is_cluster: number("cluster_enabled") == Some(1),
            policy: text("maxmemory_policy"),
            max_memory: number("maxmemory"),
            used_memory: number("used_memory"),
            append_only: number("aof_enabled").map(|on| on == 1),
        }
    }

    /// Whether it throws keys away: a limit, and a policy other than `noeviction`. The policy and the limit if so.
    pub fn evicts(&self) -> Option<(&str, u64)> {
        let policy = self.policy.as_deref().filter(|policy| *policy != "noeviction")?;
        self.max_memory.filter(|limit| *limit > 0).map(|limit| (policy, limit))
    }

    /// What is not good and yet no reason to refuse.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(policy), Some(0)) = (self.policy.as_deref().filter(|p| *p != "noeviction"), self.max_memory) {
            found.push(format!(
                "maxmemory-policy is `{policy}`: harmless while maxmemory is 0, but once a limit is set it would throw queued messages away; run `redis-cli CONFIG SET maxmemory-policy noeviction`"
            ));
        }
        if self.policy.is_none() || self.max_memory.is_none() {
            found.push("maxmemory-policy cannot be read by this user, so nobody has checked that it is noeviction; allow the user INFO (ACL SETUSER … +info)".to_owned());
        }
        if self.append_only == Some(false) {
            found.push("appendonly is off: after a restart of Redis the queues are empty. Nothing is lost, the ledger fills them again, but it takes some seconds; `redis-cli CONFIG SET appendonly yes` avoids that".to_owned());
        }
        found
    }
}

/// Reads the facts: with INFO, and with CONFIG GET what an ACL keeps from INFO.
async fn facts(connection: &mut impl ConnectionLike) -> redis::RedisResult<RedisFacts> {
    let forbidden = |error: &redis::RedisError| Unreached::of_redis(error) == Some(Unreached::Rights);
    let mut facts = match redis::cmd("INFO").query_async::<String>(connection).await {
        Ok(text) => RedisFacts::from_info(&text),
        Err(error) if forbidden(&error) => RedisFacts::default(),
        Err(error) => return Err(error),
    };
    if facts.policy.is_some() && facts.max_memory.is_some() {
        return Ok(facts);
    }
    let mut values = HashMap::new();
    for name in ["maxmemory", "maxmemory-policy", "appendonly"] {
        match redis::cmd("CONFIG").arg("GET").arg(name).query_async::<HashMap<String, String>>(connection).await {
            Ok(found) => values.extend(found),
            // Hosted servers rename CONFIG away; then it is an unknown command.
            Err(error) if error.is_io_error() => return Err(error),
            Err(_) => {}
        }
    }
    facts.max_memory = facts.max_memory.or(values.get("maxmemory").and_then(|v| v.parse().ok()));
    facts.policy = facts.policy.or(values.get("maxmemory-policy").cloned());
    facts.append_only = facts.append_only.or(values.get("appendonly").map(|v| v == "yes"));
    Ok(facts)
}

/// What stands in a Redis before we use it.
#[derive(Debug)]
pub struct Seen {
    /// Host and port.
    pub at: String,
    /// What the server says of itself.
    pub facts: RedisFacts,
    /// The installation that uses our prefix there.
    pub installation: Option<String>,
}

/// Looks at a Redis without changing anything there.
pub async fn look<'a>(server: impl Into<RedisServer<'a>>, prefix: &str) -> Result<Seen, QueueError> {
    let client = client(server.into())?;
    let at = address(&client);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        .set_response_timeout(Some(Duration::from_secs(2)));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|e| QueueError::redis(&at, "be reached", &e))?;
    let facts = facts(&mut connection).await.map_err(|e| QueueError::redis(&at, "say how it is set up", &e))?;
    let installation = redis::cmd("GET")
        .arg(key(prefix))
        .query_async(&mut connection)
        .await
        .map_err(|e| QueueError::redis(&at, "say whose prefix it is", &e))?;
    Ok(Seen { at, facts, installation })
}

/// The key that holds the id of the installation whose queues stand under `prefix`.
fn key(prefix: &str) -> String {
    format!("{prefix}:installation")
}

impl RedisQueue {
    /// Checks the server and takes the prefix for `installation`, as every role does at its start. Warnings are logged. After a flush the
    /// prefix is free again, and the reconciler takes it back (`hold_prefix`).
    pub async fn check_server(&self, installation: Uuid) -> Result<(), ServerCheckError> {
        let mut connection = self.connection.clone();
        let facts =
            facts(&mut connection).await.map_err(|e| QueueError::redis(&self.at, "say how it is set up", &e))?;
        if let Some((policy, max_memory)) = facts.evicts() {
            return Err(ServerCheckError::Evicts { at: self.at.clone(), policy: policy.to_owned(), max_memory });
        }
        for warning in facts.warnings() {
            tracing::warn!(redis = self.at, "{warning}");
        }
        let _ = self.installation.set(installation);
        self.hold_prefix().await
    }

    /// Writes our id where none stands. Another one there means that two installations would take each other's messages.
    pub(super) async fn hold_prefix(&self) -> Result<(), ServerCheckError> {
        let Some(ours) = self.installation.get().copied() else { return Ok(()) };
        let mut connection = self.connection.clone();
        let key = key(&self.prefix);
        let (theirs,): (String,) = redis::pipe()
            .cmd("SET")
            .arg(&key)
            .arg(ours.to_string())
            .arg("NX")
            .ignore()
            .get(&key)
            .query_async(&mut connection)
            .await
            .map_err(|e| QueueError::redis(&self.at, "say whose prefix it is", &e))?;
        if theirs == ours.to_string() {
            return Ok(());
        }
        Err(ServerCheckError::Foreign { at: self.at.clone(), prefix: self.prefix.clone(), theirs, ours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: &str, limit: u64) -> RedisFacts {
        RedisFacts::from_info(&format!(
            "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\naof_enabled:1\r\n"
        ))
    }

    #[test]
    fn only_a_limit_with_a_policy_throws_keys_away() {
        assert_eq!(of("allkeys-lru", 1000).evicts(), Some(("allkeys-lru", 1000)));
        assert_eq!(of("volatile-ttl", 1000).evicts(), Some(("volatile-ttl", 1000)));
        assert_eq!(of("allkeys-lru", 0).evicts(), None);
        assert_eq!(of("noeviction", 1000).evicts(), None);
    }

    #[test]
    fn warnings_say_what_it_costs() {
        assert!(of("noeviction", 0).warnings().is_empty());
        assert!(of("allkeys-lru", 0).warnings()[0].contains("CONFIG SET maxmemory-policy noeviction"));
        let volatile = RedisFacts { append_only: Some(false), ..of("noeviction", 0) };
        assert!(volatile.warnings()[0].contains("Nothing is lost"));
        assert!(RedisFacts::default().warnings()[0].contains("+info"));
    }
}
