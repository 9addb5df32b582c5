//! Requests under an Idempotency-Key and what they were answered. In comes a claim, out comes whether the request may be carried out now, or what came of
//! it before. That it had its effect is written with the effect, so that a crash in between can be told from one before.

use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use chrono::{DateTime, TimeDelta, Utc};

/// Whose key, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Keys of different callers do not meet.
    pub caller: String,
    /// The Idempotency-Key.
    pub key: String,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers that belong to it, a JSON object of texts.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It was never carried out: do it.
    Now,
    /// It was: say the same again.
    Before(Answer),
    /// It was, but what was answered is not kept, or was lost in a crash.
    AnswerLost,
    /// Somebody is at it.
    UnderWay,
    /// The key was used for another request.
    OfAnother,
}

/// Hash, instant of the claim, whether it is carried out; status, headers and body of the answer.
type Row = (Vec<u8>, Ts, bool, Option<i32>, Option<String>, Option<Vec<u8>>);

/// Rows are kept so long.
const KEPT: TimeDelta = TimeDelta::hours(24);

/// Claims a request. One that was claimed before `stale` and has had no effect is taken over: whoever claimed it has stopped.
pub async fn claim(
    db: &Db,
    request: &Request,
    request_hash: [u8; 32],
    now: DateTime<Utc>,
    stale: DateTime<Utc>,
) -> StoreResult<Claimed> {
    let Request { caller, key } = request;
    on_write!(db, |c| {
        sqlx::query("delete from answered where claimed_at < $1").bind(Ts::from(now - KEPT)).execute(c).await.rows()
    })
    .doing("forget old answers")?;
    let claimed = on_write!(db, |c| {
        sqlx::query(
            "insert into answered (caller, key, request_hash, claimed_at) values ($1, $2, $3, $4)
             on conflict (caller, key) do update set claimed_at = excluded.claimed_at
             where answered.claimed_at < $5 and answered.status is null and not answered.carried_out
               and answered.request_hash = excluded.request_hash",
        )
        .bind(caller)
        .bind(key)
        .bind(request_hash.to_vec())
        .bind(Ts::from(now))
        .bind(Ts::from(stale))
        .execute(c)
        .await
        .rows()
    })
    .doing("claim a request")?;
    if claimed == 1 {
        return Ok(Claimed::Now);
    }
    let found: Option<Row> = on_read!(db, |c| {
        sqlx::query_as(
            "select request_hash, claimed_at, carried_out, status, headers, body from answered where caller = $1 and key = $2",
        )
        .bind(caller)
        .bind(key)
        .fetch_optional(c)
        .await
    })
    .doing("read an earlier answer")?;
    Ok(match found {
        Some((hash, ..)) if hash != request_hash => Claimed::OfAnother,
        Some((_, _, _, Some(status), headers, Some(body))) => Claimed::Before(Answer {
            status: u16::try_from(status)
                .map_err(|error| StoreError::Unreadable { what: "stored status", why: error.to_string() })?,
            headers: headers.unwrap_or_default(),
            body,
        }),
        Some((_, claimed_at, true, ..)) if claimed_at.0 < stale => Claimed::AnswerLost,
        // Gone meanwhile: it failed, and may be asked for again.
        _ => Claimed::UnderWay,
    })
}

/// Notes that the request has its effect, in the transaction of the effect. An error, and with it no effect, when it had it before.
pub(crate) async fn carried_out(tx: &mut Tx, request: &Request) -> StoreResult<()> {
    let noted = on_tx!(tx, |c| {
        sqlx::query("update answered set carried_out = true where caller = $1 and key = $2 and not carried_out")
            .bind(&request.caller)
            .bind(&request.key)
            .execute(c)
            .await
            .rows()
    })
    .doing("note that a request is carried out")?;
    if noted == 1 { Ok(()) } else { Err(StoreError::CarriedOut { key: request.key.clone() }) }
}

/// Keeps the answer.
pub async fn answer(db: &Db, request: &Request, answer: &Answer) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "update answered set carried_out = true, status = $3, headers = $4, body = $5
             where caller = $1 and key = $2 and status is null",
        )
        .bind(&request.caller)
        .bind(&request.key)
        .bind(i32::from(answer.status))
        .bind(&answer.headers)
        .bind(&answer.body)
        .execute(c)
        .await
        .rows()
    })
    .doing("keep an answer")?;
    Ok(())
}

/// Lets go of a claim without an answer to keep: what had no effect may be asked for again; of what had, that is all that is known from now on.
pub async fn let_go(db: &Db, request: &Request, stale: DateTime<Utc>) -> StoreResult<()> {
    let Request { caller, key } = request;
    on_write!(db, |c| {
        sqlx::query("delete from answered where caller = $1 and key = $2 and not carried_out")
            .bind(caller)
            .bind(key)
            .execute(c)
            .await
            .rows()
    })
    .doing("give a claim back")?;
    // As if it had been claimed long ago by somebody who has stopped.
    on_write!(db, |c| {
        sqlx::query("update answered set claimed_at = $3 where caller = $1 and key = $2 and status is null")
            .bind(caller)
            .bind(key)
            .bind(Ts::from(stale - TimeDelta::seconds(1)))
            .execute(c)
            .await
            .rows()
    })
    .doing("end a claim")?;
    Ok(())
}
