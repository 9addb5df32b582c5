//! `/v1/login`: a browser shows a key once and carries a cookie instead, which no script can read and no other site can use; and who one is.

use crate::Shared;
use crate::auth::scope::Scope;
use crate::auth::{COOKIE, Caller, Who, cookie, key};
use crate::problem::Problem;
use crate::words::Tag;
use chrono::{DateTime, TimeDelta, Utc};
use poem::http::StatusCode;
use poem::web::Data;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use std::sync::Arc;
use workflows::stores::api_keys;

/// A login lasts so long, and no longer than its key.
const LASTS: TimeDelta = TimeDelta::hours(12);

/// By what one is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "CallerKind", rename_all = "snake_case")]
enum CallerKind {
    /// No key is needed here.
    Operator,
    /// A key.
    Key,
    /// The cookie of a login.
    Login,
    /// Nothing.
    Anonymous,
}

/// Who one is, and what one may.
#[derive(Debug, Object)]
#[oai(rename = "Caller", skip_serializing_if_is_none)]
struct CallerView {
    /// By what one is known.
    kind: CallerKind,
    /// As the audit names one.
    name: String,
    /// What is open.
    scopes: Vec<Scope>,
    /// Whether this server asks for keys at all.
    keys_needed: bool,
    /// Until when; absent where that is not limited.
    until: Option<DateTime<Utc>>,
}

/// What is shown.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct LogIn {
    /// The key.
    #[oai(validator(max_length = 200))]
    key: String,
}

#[derive(ApiResponse)]
enum LoggedIn {
    /// The cookie is set.
    #[oai(status = 200)]
    In(
        Json<CallerView>,
        /// The cookie; scripts cannot read it.
        #[oai(header = "Set-Cookie")]
        String,
    ),
}

#[derive(ApiResponse)]
enum LoggedOut {
    /// The login has ended, whether there was one or not.
    #[oai(status = 204)]
    Out(
        /// Takes the cookie away.
        #[oai(header = "Set-Cookie")]
        String,
    ),
}

/// What the guard has found out, and the cookie that was sent.
struct Asking {
    caller: Caller,
    cookie: Option<String>,
}

impl<'a> FromRequest<'a> for Asking {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let caller = request.data::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Problem::internal(&"a request passed without a caller"))?;
        Ok(Self { caller, cookie: cookie(request) })
    }
}

pub(crate) struct Login;

#[OpenApi(tag = "Tag::Access")]
impl Login {
    /// Who one is, and what one may.
    #[oai(path = "/v1/login", method = "get", operation_id = "get_caller")]
    async fn get(&self, shared: Data<&Arc<Shared>>, asking: Asking) -> Json<CallerView> {
        Json(view(&shared, &asking.caller))
    }

    /// Logs a browser in: the answer sets a cookie that opens what the key does.
    #[oai(path = "/v1/login", method = "post", operation_id = "log_in")]
    async fn log_in(&self, shared: Data<&Arc<Shared>>, body: Json<LogIn>) -> Result<LoggedIn, Problem> {
        let db = &shared.stores().db;
        let now = shared.engine().ledger.now();
        let found = match key::KeyText::read(body.key.trim()) {
            Some(text) => {
                let row = api_keys::by_prefix(db, &text.prefix).await?;
                row.filter(|row| key::same(&row.hash, &text.hash) && row.holds(now))
            }
            None => None,
        };
        let row = found.ok_or_else(|| {
            let detail = "It is unknown, revoked or has expired.";
            Problem::new(StatusCode::UNAUTHORIZED, "unknown_key", "The key opens nothing", detail)
        })?;
        let until = row.expires_at.map_or(now + LASTS, |key| key.0.min(now + LASTS));
        let token = key::token().map_err(|error| Problem::internal(&error))?;
        let hash = key::hash(&token);
        api_keys::log_in(db, hash, row.id, now, until).await?;
        let caller = Caller { until: Some(until), ..Caller::of(&row, Some(hash)) };
        let cookie = set_cookie(&shared, &token, (until - now).num_seconds());
        Ok(LoggedIn::In(Json(view(&shared, &caller)), cookie))
    }

    /// Ends the login of this browser.
    #[oai(path = "/v1/login", method = "delete", operation_id = "log_out")]
    async fn log_out(&self, shared: Data<&Arc<Shared>>, asking: Asking) -> Result<LoggedOut, Problem> {
        if let Some(token) = asking.cookie {
            api_keys::log_out(&shared.stores().db, key::hash(&token)).await?;
            shared.known.forget();
        }
        Ok(LoggedOut::Out(set_cookie(&shared, "", 0)))
    }
}

fn set_cookie(shared: &Shared, token: &str, seconds: i64) -> String {
    let secure = if shared.state.access.https { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

fn view(shared: &Shared, caller: &Caller) -> CallerView {
    let kind = match &caller.who {
        Who::Operator => CallerKind::Operator,
        Who::Key { login: None, .. } => CallerKind::Key,
        Who::Key { login: Some(_), .. } => CallerKind::Login,
        Who::Anonymous => CallerKind::Anonymous,
    };
    CallerView {
        kind,
        name: caller.name(),
        scopes: caller.scopes.iter().collect(),
        keys_needed: shared.state.access.keys,
        until: caller.until,
    }
}
