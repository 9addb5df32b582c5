//! What a key opens, and what each request needs: pure. In come a method and a path, out comes the scope without which it is refused.

use poem::http::Method;
use poem_openapi::Enum;
use std::collections::BTreeSet;

/// What a key opens. Each opens what stands before it too, except that nothing but `admin` opens keys and the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Enum)]
#[oai(rename = "Scope")]
pub(crate) enum Scope {
    /// Forecasts, their record, tickers, prices and sessions.
    #[oai(rename = "forecasts:read")]
    ReadForecasts,
    /// Runs, schedules, queues, quarantine and whatever else operators look at.
    #[oai(rename = "runs:read")]
    ReadRuns,
    /// Starting, steering, importing, deciding.
    #[oai(rename = "runs:write")]
    WriteRuns,
    /// Keys, audit and old history.
    #[oai(rename = "admin")]
    Admin,
}

impl Scope {
    /// All of them, the narrowest first.
    pub(crate) const ALL: [Self; 4] = [Self::ReadForecasts, Self::ReadRuns, Self::WriteRuns, Self::Admin];

    /// Its word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ReadForecasts => "forecasts:read",
            Self::ReadRuns => "runs:read",
            Self::WriteRuns => "runs:write",
            Self::Admin => "admin",
        }
    }
}

/// Some scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// These.
    pub(crate) fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().collect())
    }

    /// As they stand in the table; words that this version does not know open nothing.
    pub(crate) fn read(words: &str) -> Self {
        Self::of(
            words.split_whitespace().filter_map(|word| Scope::ALL.into_iter().find(|scope| scope.as_str() == word)),
        )
    }

    /// As they stand in the table.
    pub(crate) fn words(&self) -> String {
        self.0.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// One by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }

    /// Whether they open what needs `scope`.
    pub(crate) fn open(&self, scope: Scope) -> bool {
        self.0.iter().any(|held| *held >= scope)
    }
}

/// Paths below `/v1` that tell about forecasts and prices.
const OF_FORECASTS: [&str; 4] = ["forecasts", "accuracy", "tickers", "exchanges"];
/// Paths below `/v1` that only those may touch who give keys to others.
const OF_ADMINS: [&str; 2] = ["keys", "audit"];

/// What the request needs; `None` where everybody may ask.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Scope> {
    let Some(rest) = path.strip_prefix("/v1/") else {
        return (path == "/metrics").then_some(Scope::ReadRuns);
    };
    let resource = rest.split('/').next().unwrap_or_default();
    match resource {
        // Written otherwise than we write it: whatever it may be taken for, the widest scope is enough.
        _ if resource.contains('%') => Some(Scope::Admin),
        // Whoever logs in shows a key by it; whoever asks who they are is told.
        "login" => None,
        _ if OF_ADMINS.contains(&resource) => Some(Scope::Admin),
        // What is put away is gone from the ledger.
        "history" if !method.is_safe() => Some(Scope::Admin),
        _ if !method.is_safe() => Some(Scope::WriteRuns),
        _ if OF_FORECASTS.contains(&resource) => Some(Scope::ReadForecasts),
        _ => Some(Scope::ReadRuns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_scopes_open_what_narrower_ones_do() {
        let writes = Scopes::read("runs:write nonsense");
        assert!(writes.open(Scope::ReadForecasts) && writes.open(Scope::ReadRuns) && writes.open(Scope::WriteRuns));
        assert!(!writes.open(Scope::Admin) && !Scopes::default().open(Scope::ReadForecasts));
        assert_eq!(Scopes::read(&Scopes::of(Scope::ALL).words()), Scopes::of(Scope::ALL));
    }

    #[test]
    fn each_request_needs_what_it_touches() {
        for (method, path, scope) in [
            (Method::GET, "/v1/forecasts/NASDAQ/AAPL", Some(Scope::ReadForecasts)),
            (Method::HEAD, "/v1/tickers", Some(Scope::ReadForecasts)),
            (Method::PUT, "/v1/tickers/NASDAQ/AAPL", Some(Scope::WriteRuns)),
            (Method::GET, "/v1/runs", Some(Scope::ReadRuns)),
            (Method::POST, "/v1/runs", Some(Scope::WriteRuns)),
            (Method::GET, "/v1/something-new", Some(Scope::ReadRuns)),
            (Method::GET, "/v1/audit", Some(Scope::Admin)),
            (Method::GET, "/v1/keys", Some(Scope::Admin)),
            (Method::GET, "/v1/%6beys", Some(Scope::Admin)),
            (Method::POST, "/v1/keys/", Some(Scope::Admin)),
            (Method::GET, "/v1/history", Some(Scope::ReadRuns)),
            (Method::POST, "/v1/history/sweep", Some(Scope::Admin)),
            (Method::POST, "/v1/login", None),
            (Method::GET, "/metrics", Some(Scope::ReadRuns)),
            (Method::GET, "/health/ready", None),
            (Method::GET, "/docs", None),
        ] {
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
    }
}
