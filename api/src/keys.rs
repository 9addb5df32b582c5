//! `/v1/keys`: who may ask for what. A key is shown once, when it is made; here are only its name, its scopes and its fate.

use crate::Shared;
use crate::auth::key;
use crate::auth::scope::{Scope, Scopes};
use crate::door::By;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::Tag;
use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::ledger::NewEntry;
use workflows::stores::api_keys::{self, KeyRow, NewKey};
use workflows::{Engine, Stores};

/// A key, without what opens.
#[derive(Debug, Object)]
#[oai(rename = "ApiKey", skip_serializing_if_is_none)]
struct KeyView {
    /// Its id.
    id: Uuid,
    /// For people; the audit names it so.
    name: String,
    /// The digits after `rtn_`, by which a key is recognised.
    prefix: String,
    /// What it opens.
    scopes: Vec<Scope>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// Who made it.
    created_by: String,
    /// From then on it is refused; absent: never.
    expires_at: Option<DateTime<Utc>>,
    /// Its newest use, as exactly as a minute; absent: it was never used.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked; absent: it was not.
    revoked_at: Option<DateTime<Utc>>,
}

/// Keys, the oldest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct KeyPage {
    /// At most `limit` of them.
    items: Vec<KeyView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// A key that is wanted.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct CreateKey {
    /// For people: who or what will use it.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// What it is to open. A wider scope opens what the narrower ones do.
    #[oai(validator(min_items = 1, max_items = 4))]
    scopes: Vec<Scope>,
    /// From then on it is refused; by default never.
    expires_at: Option<DateTime<Utc>>,
}

/// A new key.
#[derive(Debug, Object)]
struct KeyCreated {
    /// What opens. It is shown this once and kept nowhere.
    key: String,
    /// What is kept of it.
    about: KeyView,
}

#[derive(ApiResponse)]
enum Created {
    /// It was made.
    #[oai(status = 201)]
    Created(Json<KeyCreated>),
}

#[derive(ApiResponse)]
enum Revoked {
    /// It opens nothing any more, whether it did or not. Other processes notice within three seconds.
    #[oai(status = 204)]
    Revoked,
}

pub(crate) struct Keys;

#[OpenApi(tag = "Tag::Access")]
impl Keys {
    /// The keys there are, revoked ones among them.
    #[oai(path = "/v1/keys", method = "get", operation_id = "list_keys")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<KeyPage>, Problem> {
        let after: Option<Uuid> = after("key", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows = api_keys::list(&shared.stores().db, after, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("key", row.id));
        Ok(Json(KeyPage { items: rows.into_iter().map(KeyView::from).collect(), next_cursor }))
    }

    /// Makes a key. The answer shows it, once.
    #[oai(path = "/v1/keys", method = "post", operation_id = "create_key")]
    async fn create(&self, shared: Data<&Arc<Shared>>, by: By, body: Json<CreateKey>) -> Result<Created, Problem> {
        let CreateKey { name, scopes, expires_at } = body.0;
        let now = shared.engine().ledger.now();
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Problem::bad_field("expires_at", "it is past already"));
        }
        let scopes = Scopes::of(scopes);
        let id = shared.engine().new_run_id();
        let entry = by.entry(&shared, "key_create", &name, scopes.words());
        let (row, key) = keep(shared.stores(), id, name, &scopes, expires_at, &entry, now).await?;
        let row = row.ok_or_else(|| Problem::internal(&"a new key's id is taken"))?;
        Ok(Created::Created(Json(KeyCreated { key, about: row.into() })))
    }

    /// Revokes a key, for good.
    #[oai(path = "/v1/keys/:id", method = "delete", operation_id = "revoke_key")]
    async fn revoke(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// Its id.
        id: Path<Uuid>,
    ) -> Result<Revoked, Problem> {
        let db = &shared.stores().db;
        let row = api_keys::get(db, id.0).await?.ok_or_else(|| {
            let detail = format!("There is no key {}. GET /v1/keys lists those there are.", id.0);
            Problem::not_found("unknown_api_key", "There is no such key here", detail)
        })?;
        let entry = by.entry(&shared, "key_revoke", format!("{} ({})", row.name, row.prefix), "");
        api_keys::revoke(db, id.0, &entry, shared.engine().ledger.now()).await?;
        shared.known.forget();
        Ok(Revoked::Revoked)
    }
}

/// Makes a key and keeps its hash; the row is `None` when the id is taken.
async fn keep(
    stores: &Stores,
    id: Uuid,
    name: String,
    scopes: &Scopes,
    expires_at: Option<DateTime<Utc>>,
    entry: &NewEntry,
    now: DateTime<Utc>,
) -> Result<(Option<KeyRow>, String), KeyFault> {
    let (made, text) = key::make()?;
    let key = NewKey {
        id,
        name,
        prefix: made.prefix,
        hash: made.hash,
        scopes: scopes.words(),
        created_by: entry.who.clone(),
        expires_at,
    };
    let kept = api_keys::create(&stores.db, &key, entry, now).await?;
    let row = if kept { api_keys::get(&stores.db, id).await? } else { None };
    Ok((row, text))
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// No random numbers.
    #[error("a key could not be made: {0}")]
    Chance(String),
    /// The database.
    #[error("a key could not be kept: {0}")]
    Store(#[from] StoreError),
}

impl From<key::NoChance> for KeyFault {
    fn from(error: key::NoChance) -> Self {
        Self::Chance(error.to_string())
    }
}

impl From<KeyFault> for Problem {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::Store(error) => error.into(),
            KeyFault::Chance(error) => Problem::internal(&error),
        }
    }
}

/// What came of making the first key.
#[derive(Debug)]
pub enum Bootstrap {
    /// There was none: this one opens everything. It is shown this once.
    Made(String),
    /// There is one already, or another process has just made it.
    There,
}

/// Makes the first key, where there was never one: whoever starts the program may do everything.
///
/// # Errors
/// The database, or no random numbers.
pub async fn bootstrap(engine: &Engine, stores: &Stores) -> Result<Bootstrap, KeyFault> {
    if api_keys::any(&stores.db).await? {
        return Ok(Bootstrap::There);
    }
    let now = engine.ledger.now();
    let entry = NewEntry {
        id: engine.new_run_id(),
        at: now,
        who: "bootstrap".to_owned(),
        door: "cli",
        action: "key_create",
        subject: "bootstrap".to_owned(),
        detail: Scope::Admin.as_str().to_owned(),
        request: None,
    };
    let scopes = Scopes::of([Scope::Admin]);
    let (row, text) = keep(stores, api_keys::BOOTSTRAP, "bootstrap".to_owned(), &scopes, None, &entry, now).await?;
    Ok(row.map_or(Bootstrap::There, |_| Bootstrap::Made(text)))
}

/// A token that opens everything while this process lives, for whoever may read the data folder.
///
/// # Errors
/// No random numbers.
pub fn local_token() -> Result<String, KeyFault> {
    Ok(key::token()?)
}

fn default_limit() -> u32 {
    50
}

impl From<KeyRow> for KeyView {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            scopes: Scopes::read(&row.scopes).iter().collect(),
            created_at: row.created_at.0,
            created_by: row.created_by,
            expires_at: row.expires_at.map(|at| at.0),
            last_used_at: row.last_used_at.map(|at| at.0),
            revoked_at: row.revoked_at.map(|at| at.0),
        }
    }
}
