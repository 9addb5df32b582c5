//! Who asks, and what they may. In comes a request, out comes its caller, or the problem that tells what is missing. Where no key is needed (on a
//! loopback address), everyone is the operator.

pub(crate) mod key;
pub(crate) mod rate;
pub(crate) mod scope;

use crate::Shared;
use crate::problem::Problem;
use chrono::{DateTime, TimeDelta, Utc};
use key::KeyText;
use poem::Request;
use poem::http::{StatusCode, header};
use scope::{Scope, Scopes};
use std::time::Duration;
use uuid::Uuid;
use workflows::Stores;
use workflows::db::StoreResult;
use workflows::stores::api_keys::{self, KeyRow};

/// Who may ask for what, and how much.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whether a key is needed.
    pub keys: bool,
    /// Whether forecasts, their record and the tickers may be read without one.
    pub anonymous_reads: bool,
    /// Whether archived prices may be, too: the operator says so who has the right to pass them on.
    pub publish_bars: bool,
    /// Requests a minute of one key; 0: no limit.
    pub requests_per_minute: u32,
    /// Requests a minute of one address without a key; 0: no limit.
    pub anonymous_requests_per_minute: u32,
    /// Origins whose pages may ask from a browser, with a key: `https://app.example.org`.
    pub cors_origins: Vec<String>,
    /// Whether browsers reach us by https: cookies then go no other way.
    pub https: bool,
    /// Whether the last address in `X-Forwarded-For` is the caller's: true behind a proxy of one's own.
    pub behind_proxy: bool,
    /// A token that opens everything while this process lives; whoever may read the data folder finds it there.
    pub local_token: Option<String>,
}

impl Default for Access {
    /// No key, for loopback addresses.
    fn default() -> Self {
        Self {
            keys: false,
            anonymous_reads: false,
            publish_bars: false,
            requests_per_minute: 0,
            anonymous_requests_per_minute: 0,
            cors_origins: Vec::new(),
            https: false,
            behind_proxy: false,
            local_token: None,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Somebody on this machine; or who may read its data folder.
    Operator,
    /// Somebody with a key, or with the cookie of a login by it, of which the hash is kept.
    Key { id: Uuid, name: String, prefix: String, login: Option<[u8; 32]> },
    /// Anybody.
    Anonymous,
}

/// Who asks, and what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) who: Who,
    pub(crate) scopes: Scopes,
    /// Until when, where that is limited.
    pub(crate) until: Option<DateTime<Utc>>,
}

impl Caller {
    fn operator() -> Self {
        Self { who: Who::Operator, scopes: Scopes::of([Scope::Admin]), until: None }
    }

    fn anonymous(access: &Access) -> Self {
        let scopes = if access.anonymous_reads { Scopes::of([Scope::ReadForecasts]) } else { Scopes::default() };
        Self { who: Who::Anonymous, scopes, until: None }
    }

    /// Whoever holds this key, or logged in by it.
    pub(crate) fn of(key: &KeyRow, login: Option<[u8; 32]>) -> Self {
        let (id, name, prefix) = (key.id, key.name.clone(), key.prefix.clone());
        let until = key.expires_at.map(|at| at.0);
        Self { who: Who::Key { id, name, prefix, login }, scopes: Scopes::read(&key.scopes), until }
    }

    /// As the audit names them.
    pub(crate) fn name(&self) -> String {
        match &self.who {
            Who::Operator => "operator".to_owned(),
            Who::Key { name, prefix, .. } => format!("{name} ({prefix})"),
            Who::Anonymous => "anonymous".to_owned(),
        }
    }

    /// Whether a browser sent it by itself.
    pub(crate) fn by_cookie(&self) -> bool {
        matches!(self.who, Who::Key { login: Some(_), .. })
    }
}

/// The cookie of a login.
pub(crate) const COOKIE: &str = "retainai_login";

/// What a request shows.
enum Shown {
    Key(String),
    Cookie(String),
}

/// How long what a key opens is believed without asking the database again: a revoked one opens nothing after that.
const BELIEVED: Duration = Duration::from_secs(3);
/// The most keys remembered; texts that are none stand among them, so that guessing does not wear the database.
const REMEMBERED: u64 = 10_000;
/// Uses of a key are noted no oftener.
const NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// Callers that were looked up a moment ago, by the hash of what they showed.
pub(crate) struct Known(moka::sync::Cache<[u8; 32], Option<Caller>>);

impl Default for Known {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build())
    }
}

impl Known {
    /// What is known of a key or login is asked again.
    pub(crate) fn forget(&self) {
        self.0.invalidate_all();
    }
}

/// Who asks. Something shown that opens nothing is refused, also where nothing needs to be shown.
pub(crate) async fn identify(shared: &Shared, request: &Request) -> Result<Caller, Problem> {
    let access = &shared.state.access;
    if !access.keys {
        return Ok(Caller::operator());
    }
    let Some(shown) = shown(request)? else { return Ok(Caller::anonymous(access)) };
    let (Shown::Key(text) | Shown::Cookie(text)) = &shown;
    let hash = key::hash(text);
    if access.local_token.as_deref().is_some_and(|token| key::same(&key::hash(token), &hash)) {
        return Ok(Caller::operator());
    }
    let now = shared.engine().ledger.now();
    let caller = match shared.known.0.get(&hash) {
        Some(known) => known,
        None => {
            let found = look_up(shared, &shown, hash, now).await?;
            shared.known.0.insert(hash, found.clone());
            found
        }
    };
    match (caller.filter(|caller| caller.until.is_none_or(|until| now < until)), shown) {
        (Some(caller), _) => Ok(caller),
        // A browser goes on sending the cookie of a login that has ended; the page then asks for a key.
        (None, Shown::Cookie(_)) => Ok(Caller::anonymous(access)),
        (None, Shown::Key(_)) => Err(unauthorised(
            "unknown_key",
            "It is unknown, revoked or has expired. Ask whoever runs this server for another.",
        )),
    }
}

async fn look_up(
    shared: &Shared,
    shown: &Shown,
    hash: [u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<Caller>, Problem> {
    let db = &shared.stores().db;
    match shown {
        Shown::Key(text) => {
            let Some(text) = KeyText::read(text) else { return Ok(None) };
            let key = api_keys::by_prefix(db, &text.prefix).await?;
            let Some(key) = key.filter(|key| key::same(&key.hash, &text.hash) && key.holds(now)) else {
                return Ok(None);
            };
            if key.last_used_at.is_none_or(|last| now - last.0 >= NOTED_EVERY)
                && let Err(error) = api_keys::used(db, key.id, now).await
            {
                tracing::debug!(%error, "the use of a key could not be noted");
            }
            Ok(Some(Caller::of(&key, None)))
        }
        Shown::Cookie(_) => {
            let found = api_keys::by_login(db, hash, now).await?.filter(|(key, _)| key.holds(now));
            Ok(found.map(|(key, until)| {
                let caller = Caller::of(&key, Some(hash));
                let until = Some(caller.until.map_or(until, |key| key.min(until)));
                Caller { until, ..caller }
            }))
        }
    }
}

/// Whether the caller may still do what they could: for what lasts longer than a request.
pub(crate) async fn holds(stores: &Stores, caller: &Caller, now: DateTime<Utc>) -> StoreResult<bool> {
    let in_time = caller.until.is_none_or(|until| now < until);
    let Who::Key { id, login, .. } = &caller.who else { return Ok(in_time) };
    let key = match login {
        Some(hash) => api_keys::by_login(&stores.db, *hash, now).await?.map(|(key, _)| key),
        None => api_keys::get(&stores.db, *id).await?,
    };
    Ok(in_time && key.is_some_and(|key| key.holds(now)))
}

/// `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the cookie of a login; the first that is there.
fn shown(request: &Request) -> Result<Option<Shown>, Problem> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let key = value.to_str().ok().and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
        });
        let other = || unauthorised("unknown_scheme", "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`.");
        return key.map(|key| Some(Shown::Key(key))).ok_or_else(other);
    }
    if let Some(key) = request.header("x-api-key") {
        return Ok(Some(Shown::Key(key.to_owned())));
    }
    Ok(cookie(request).map(Shown::Cookie))
}

/// The value of our cookie.
pub(crate) fn cookie(request: &Request) -> Option<String> {
    let all = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let ours = |pair: &str| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE && !value.is_empty()).then(|| value.to_owned())
    };
    all.flat_map(|value| value.split(';')).find_map(ours)
}

/// Whether the caller may ask for this.
pub(crate) fn allow(shared: &Shared, caller: &Caller, request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    let Some(scope) = scope::needed(request.method(), path) else { return Ok(()) };
    if caller.scopes.open(scope) {
        let bars = path.starts_with("/v1/tickers/") && path.ends_with("/bars");
        if bars && caller.who == Who::Anonymous && !shared.state.access.publish_bars {
            let detail = "Whoever runs this server has not said that these prices may be passed on. A key opens them.";
            return Err(unauthorised("bars_not_public", detail));
        }
        return Ok(());
    }
    if caller.who == Who::Anonymous {
        return Err(unauthorised("key_needed", "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`, or log in."));
    }
    let detail = format!("This needs the scope `{}`; the key has: {}.", scope.as_str(), caller.scopes.words());
    Err(Problem::new(StatusCode::FORBIDDEN, "missing_scope", "The key does not open this", detail))
}

fn unauthorised(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, "A key is needed", detail)
        .header(header::WWW_AUTHENTICATE, "Bearer realm=\"retainai\"")
}
