//! Requests under an Idempotency-Key: claimed once, answered the same, and never carried out twice, wherever the one who claimed them stopped.

use crate::both::on_both;
use chrono::{DateTime, TimeDelta, Utc};
use market::Exchange;
use uuid::Uuid;
use workflows::Db;
use workflows::db::StoreError;
use workflows::ledger::{self, NewEntry, Steering};
use workflows::stores::answered::{self, Answer, Claimed, Request};

on_both!(
    a_claim_is_one_ones_and_its_answer_everybodys,
    what_was_carried_out_is_not_carried_out_again,
    of_many_at_once_one_may_do_it,
);

fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

fn request() -> Request {
    Request { caller: "a bot (1a2b3c4d)".to_owned(), key: "monday".to_owned() }
}

/// Claims at `now`; what was claimed three minutes before is stale.
async fn claim(db: &Db, request: &Request, hash: u8, now: DateTime<Utc>) -> Claimed {
    answered::claim(db, request, [hash; 32], now, now - TimeDelta::minutes(3)).await.unwrap()
}

async fn a_claim_is_one_ones_and_its_answer_everybodys(db: Db) {
    let request = request();
    assert_eq!(claim(&db, &request, 1, now()).await, Claimed::Now);
    assert_eq!(claim(&db, &request, 1, now()).await, Claimed::UnderWay);
    assert_eq!(claim(&db, &request, 2, now()).await, Claimed::OfAnother);
    let other = Request { caller: "another".to_owned(), ..request.clone() };
    assert_eq!(claim(&db, &other, 2, now()).await, Claimed::Now, "keys of different callers do not meet");
    let answer = Answer { status: 202, headers: "{}".to_owned(), body: b"{\"id\":1}".to_vec() };
    answered::answer(&db, &request, &answer).await.unwrap();
    assert_eq!(claim(&db, &request, 1, now()).await, Claimed::Before(answer.clone()));
    assert_eq!(claim(&db, &request, 2, now()).await, Claimed::OfAnother);
    let tomorrow = now() + TimeDelta::hours(25);
    assert_eq!(claim(&db, &request, 2, tomorrow).await, Claimed::Now, "after a day the key is free");
    // What had no effect may be asked for again at once.
    answered::let_go(&db, &request, tomorrow - TimeDelta::minutes(3)).await.unwrap();
    assert_eq!(claim(&db, &request, 3, tomorrow).await, Claimed::Now);
}

fn entry(request: Option<Request>) -> NewEntry {
    let (who, subject) = ("operator".to_owned(), "NEPSE".to_owned());
    NewEntry {
        id: Uuid::now_v7(),
        at: now(),
        who,
        door: "api",
        action: "pause",
        subject,
        detail: String::new(),
        request,
    }
}

async fn pause(db: &Db, request: &Request) -> Result<(), StoreError> {
    let exchange = Exchange::Nepse.to_string();
    let what = Steering::Pause { kind: "exchange", value: &exchange, reason: "a test" };
    ledger::steer(db, &what, &entry(Some(request.clone())), now()).await.map(|_| ())
}

async fn what_was_carried_out_is_not_carried_out_again(db: Db) {
    let request = request();
    // Whoever claimed it died before it had any effect: after a while another takes it over.
    assert_eq!(claim(&db, &request, 1, now()).await, Claimed::Now);
    let later = now() + TimeDelta::minutes(4);
    assert_eq!(claim(&db, &request, 1, later).await, Claimed::Now);
    // And dies right after its effect.
    pause(&db, &request).await.unwrap();
    assert_eq!(claim(&db, &request, 1, later).await, Claimed::UnderWay);
    let much_later = later + TimeDelta::minutes(4);
    assert_eq!(claim(&db, &request, 1, much_later).await, Claimed::AnswerLost);
    // The first was only slow: its effect is refused with all that belongs to it.
    ledger::steer(&db, &Steering::Resume { kind: "exchange", value: "NEPSE" }, &entry(None), now()).await.unwrap();
    let error = pause(&db, &request).await.unwrap_err();
    assert!(matches!(error, StoreError::CarriedOut { .. }), "{error}");
    assert!(ledger::paused(&db).await.unwrap().is_empty(), "nothing of it was written");
}

async fn of_many_at_once_one_may_do_it(db: Db) {
    let request = request();
    let claims = futures::future::join_all((0..8).map(|_| claim(&db, &request, 1, now()))).await;
    assert_eq!(claims.iter().filter(|claimed| **claimed == Claimed::Now).count(), 1, "{claims:?}");
}
