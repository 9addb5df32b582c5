//! Flow control, the same promises on memory and on a real Redis: several `Flow`s stand for several pods, fifty acquirers for their workers.
//! Times are those of whoever admits (`Permit::started_at`), so that a slow machine changes nothing about what is counted.

use chrono::{DateTime, Utc};
use futures::future::join_all;
use product_tests::eventually;
use product_tests::servers::{self, RedisDb};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use workflows::flow::{
    Breaker, BreakerState, Ending, Flow, FlowSettings, Limit, NotNow, NotNowReason, Permit, Verdict,
};

const HOST: &str = "www.example.com";
const BRIEFLY: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);

/// Five pods, and what must live as long as they.
struct Pods {
    flows: Vec<Flow>,
    _server: Option<RedisDb>,
}

fn now() -> DateTime<Utc> {
    "2026-03-04T12:00:00Z".parse().unwrap()
}

/// Patient with Redis, so that a machine that is busy with other things is no outage.
fn patient() -> FlowSettings {
    FlowSettings { answer_within: Duration::from_secs(20), retry_after: Duration::from_millis(500) }
}

fn pods_on(server: &RedisDb, count: usize, settings: FlowSettings) -> Vec<Flow> {
    (0..count).map(|_| Flow::redis(&server.url(), "test", settings, now()).unwrap()).collect()
}

async fn memory() -> Option<Pods> {
    Some(Pods { flows: vec![Flow::memory(now()); 5], _server: None })
}

async fn redis() -> Option<Pods> {
    let server = servers::redis().await?;
    Some(Pods { flows: pods_on(&server, 5, patient()), _server: Some(server) })
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            super::$name(super::memory().await.unwrap()).await;
        })+ }
        mod redis { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
            if let Some(pods) = super::redis().await { super::$name(pods).await; }
        })+ }
    };
}

on_both!(
    fifty_acquirers_keep_to_the_pace_and_use_it,
    every_pod_knows_what_was_heard_of_a_host,
    seats_are_never_overfilled,
    the_seat_of_a_dead_pod_frees_itself,
    a_visit_keeps_its_seat,
    every_pod_obeys_retry_after,
    a_breaker_opens_lets_one_probe_through_and_closes,
    the_daily_budget_is_everybodys,
);

fn free() -> Limit {
    Limit::paced(Duration::ZERO)
}

/// Asks until it is admitted, coming back when told.
async fn admitted(flow: &Flow, limit: &Limit) -> Permit {
    loop {
        match flow.acquire(HOST, limit, BRIEFLY).await {
            Ok(permit) => return permit,
            Err(not_now) => tokio::time::sleep(not_now.wait).await,
        }
    }
}

fn refusal(answer: Result<Permit, NotNow>) -> NotNow {
    answer.err().expect("to be sent away")
}

/// No stretch of time holds more starts than `burst` and the rate's, when two clocks may differ by `slack_s`.
fn assert_pace(starts: &[DateTime<Utc>], limit: &Limit, slack_s: f64) {
    let mut starts: Vec<i64> = starts.iter().map(DateTime::timestamp_micros).collect();
    starts.sort_unstable();
    let rate = limit.rate.unwrap();
    for (first, from) in starts.iter().enumerate() {
        for (more, to) in starts[first..].iter().enumerate() {
            // Starts are rounded up to the next microsecond.
            let stretch_s = (to - from + 2) as f64 / 1e6 + slack_s;
            let bound = f64::from(limit.burst) + rate * stretch_s;
            assert!((more + 1) as f64 <= bound + 1e-9, "{} starts within {stretch_s} s", more + 1);
        }
    }
}

async fn fifty_acquirers_keep_to_the_pace_and_use_it(pods: Pods) {
    let limit = Limit { rate: Some(40.0), burst: 3, concurrency: Some(10), ..free() };
    let end = Instant::now() + Duration::from_secs(4);
    let starts: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let acquirers = (0..50).map(|number| {
        let (flow, starts) = (pods.flows[number % pods.flows.len()].clone(), starts.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                match flow.acquire(HOST, &limit, BRIEFLY).await {
                    Ok(permit) => {
                        starts.lock().unwrap().push(permit.started_at());
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        flow.report(permit, Verdict::Success).await;
                    }
                    Err(not_now) => {
                        tokio::time::sleep(not_now.wait.min(end.saturating_duration_since(Instant::now()))).await;
                    }
                }
            }
        })
    });
    join_all(acquirers).await.into_iter().for_each(|ended| ended.unwrap());
    let starts = starts.lock().unwrap();
    assert_pace(&starts, &limit, 0.0);
    let used = starts.len() as f64 / (40.0 * 4.0);
    println!("{:.0} % of the pace used", used * 100.0);
    // A machine that works on other things may well leave some of it; `gate_laws` asserts nine tenths without a clock.
    assert!(used > 0.5, "{} starts", starts.len());
}

async fn seats_are_never_overfilled(pods: Pods) {
    let limit = Limit { concurrency: Some(3), ..free() };
    let (inside, most, left) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(120));
    let visits = (0..50).map(async |number: usize| {
        let flow = &pods.flows[number % pods.flows.len()];
        while left.load(Ordering::SeqCst) > 0 {
            let permit = admitted(flow, &limit).await;
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(3)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            flow.report(permit, Verdict::Success).await;
        }
    });
    tokio::time::timeout(LIMIT, join_all(visits)).await.expect("everybody comes in some time");
    assert_eq!(most.load(Ordering::SeqCst), 3, "all seats are used, and no more");
}

async fn the_seat_of_a_dead_pod_frees_itself(pods: Pods) {
    let limit = Limit { concurrency: Some(1), permit_life: Duration::from_secs(3), ..free() };
    let [dead, other] = [&pods.flows[0], &pods.flows[1]];
    let lost = admitted(dead, &limit).await;
    let lost_at = lost.started_at();
    std::mem::forget(lost);
    assert_eq!(refusal(other.acquire(HOST, &limit, Duration::ZERO).await).why, NotNowReason::Busy);
    let permit = tokio::time::timeout(LIMIT, admitted(other, &limit)).await.expect("a free seat");
    assert!((permit.started_at() - lost_at).to_std().unwrap() >= limit.permit_life);
    // A permit that is only dropped, as by a cancelled step, frees its seat long before its life ends.
    other.report(permit, Verdict::Success).await;
    let limit = Limit { permit_life: Duration::from_secs(3600), ..limit };
    drop(admitted(dead, &limit).await);
    tokio::time::timeout(LIMIT, admitted(other, &limit)).await.expect("a free seat");
}

async fn a_visit_keeps_its_seat(pods: Pods) {
    let limit = Limit { rate: Some(20.0), concurrency: Some(1), ..free() };
    let [visitor, other] = [&pods.flows[0], &pods.flows[1]];
    let mut permit = admitted(visitor, &limit).await;
    let mut starts = vec![permit.started_at()];
    for _ in 0..5 {
        visitor.note(&permit, Verdict::Success).await;
        assert_eq!(refusal(other.acquire(HOST, &limit, Duration::ZERO).await).why, NotNowReason::Busy);
        permit = visitor.again(permit, LIMIT).await.unwrap_or_else(|e| panic!("a visit goes on: {e}"));
        starts.push(permit.started_at());
    }
    assert_pace(&starts, &limit, 0.0);
    visitor.report(permit, Verdict::Success).await;
    tokio::time::timeout(LIMIT, admitted(other, &limit)).await.expect("a free seat");
}

async fn every_pod_obeys_retry_after(pods: Pods) {
    let permit = admitted(&pods.flows[0], &free()).await;
    pods.flows[0].report(permit, Verdict::BlockedFor(Duration::from_secs(4))).await;
    let blocked_until = pods.flows[1].states().await[0].blocked_until.expect("a pause");
    let asked = pods.flows.iter().map(async |flow| {
        let refused = refusal(flow.acquire(HOST, &free(), BRIEFLY).await);
        assert_eq!(refused.why, NotNowReason::Blocked);
        // Each comes back when told; nobody is told to come before the pause ends.
        tokio::time::sleep(refused.wait).await;
        flow.acquire(HOST, &free(), BRIEFLY).await.unwrap_or_else(|e| panic!("the pause has ended: {e}")).started_at()
    });
    for start in join_all(asked).await {
        assert!(start >= blocked_until, "{start} is before {blocked_until}");
    }
    assert_eq!(pods.flows[1].states().await[0].blocked_until, None);
}

async fn a_breaker_opens_lets_one_probe_through_and_closes(pods: Pods) {
    let breaker = Breaker { failures: 3, cool_down: Duration::from_secs(2), ..Breaker::default() };
    let limit = Limit { breaker: Some(breaker), ..free() };
    for flow in &pods.flows[..3] {
        let permit = admitted(flow, &limit).await;
        flow.report(permit, Verdict::Failure).await;
    }
    let state = pods.flows[4].states().await.remove(0);
    let BreakerState::Open { until } = state.breaker else { panic!("open after three failures: {state:?}") };
    let all = || pods.flows.iter().cycle().take(50).map(|flow| flow.acquire(HOST, &limit, Duration::ZERO));
    let (mut probes, mut refused) = (Vec::new(), 0);
    let probing = async {
        while probes.is_empty() {
            for answer in join_all(all()).await {
                match answer {
                    Ok(permit) => probes.push(permit),
                    Err(not_now) => {
                        assert_eq!(not_now.why, NotNowReason::BreakerOpen);
                        refused += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, probing).await.expect("a probe");
    assert!(probes.len() == 1 && refused >= 49, "{} probes", probes.len());
    let probe = probes.remove(0);
    assert!(probe.started_at() >= until);
    assert_eq!(pods.flows[4].states().await[0].breaker, BreakerState::HalfOpen);
    pods.flows[0].report(probe, Verdict::Success).await;
    assert!(join_all(all()).await.iter().all(Result::is_ok), "closed for everybody");
    assert_eq!(pods.flows[4].states().await[0].breaker, BreakerState::Closed);
}

async fn the_daily_budget_is_everybodys(pods: Pods) {
    let limit = Limit { daily_budget: Some(7), ..free() };
    let answers = join_all(pods.flows.iter().cycle().take(30).map(|flow| flow.acquire(HOST, &limit, BRIEFLY))).await;
    let mut days: Vec<_> = answers.iter().flatten().map(|permit| permit.started_at().date_naive()).collect();
    let all = days.len();
    days.dedup();
    assert_eq!(all, 7 * days.len(), "seven on each of {days:?}");
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refused.why, NotNowReason::BudgetSpent);
        assert!(refused.wait < Duration::from_secs(86_400 + 3_600), "{:?}", refused.wait);
    }
    assert_eq!(pods.flows[0].states().await[0].used_today, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_the_shares_keep_within_the_limit_and_its_return_is_noticed() {
    let Some(mut server) = servers::redis().await else { return };
    let limit = Limit { rate: Some(40.0), burst: 4, concurrency: Some(8), ..free() };
    let settings = FlowSettings { answer_within: BRIEFLY, ..patient() };
    let flows = pods_on(&server, 4, settings);
    let starts: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let stop = CancellationToken::new();
    let mut acquirers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (flow, starts, stop) = (flows[number % 4].clone(), starts.clone(), stop.clone());
        acquirers.spawn(async move {
            while !stop.is_cancelled() {
                match flow.acquire(HOST, &limit, BRIEFLY).await {
                    Ok(permit) => {
                        starts.lock().unwrap().push(permit.started_at());
                        flow.report(permit, Verdict::Success).await;
                    }
                    // Sooner than told, so that the limit is held up by nothing but itself.
                    Err(not_now) => tokio::time::sleep(not_now.wait.min(Duration::from_millis(200))).await,
                }
            }
        });
    }
    let more = async |count: usize| {
        let goal = starts.lock().unwrap().len() + count;
        eventually("more requests", LIMIT, async || (starts.lock().unwrap().len() >= goal).then_some(())).await;
    };
    more(60).await;
    server.kill9();
    more(60).await;
    server.restart().await;
    // Redis' own count passes what the pods can have started by themselves: they told it, and come to it again.
    let goal = starts.lock().unwrap().len() as u64 + 120;
    let counted = async || {
        let states = pods_on(&server, 1, patient())[0].states().await;
        states.first().is_some_and(|state| state.used_today >= goal).then_some(())
    };
    eventually("the pods to come back to Redis", LIMIT, counted).await;
    stop.cancel();
    while let Some(ended) = acquirers.join_next().await {
        ended.unwrap();
    }
    // While Redis is away each pod reckons its time from the last answer, so they differ by as long as an answer takes.
    assert_pace(&starts.lock().unwrap(), &limit, 0.5);
}

async fn every_pod_knows_what_was_heard_of_a_host(pods: Pods) {
    let pause = Some(Duration::from_secs(5));
    pods.flows[0].note_ending(HOST, Ending { error: None, pause }).await;
    pods.flows[1].note_ending(HOST, Ending { error: Some("rate_limited"), pause }).await;
    let keys = [HOST.to_owned(), "other.example.com".to_owned()];
    let heard = pods.flows[4].heard(&keys).await.remove(HOST).expect("a note");
    assert!(heard.last_success_at >= Some(now()) && heard.last_error_at >= heard.last_success_at, "{heard:?}");
    assert_eq!((heard.last_error.as_deref(), heard.pause), (Some("rate_limited"), pause));
    assert!(pods.flows[4].heard(&keys[1..]).await.get(&keys[1]).is_none_or(|heard| *heard == Default::default()));
}

#[tokio::test]
async fn a_redis_that_is_silent_keeps_nobody_waiting() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let flow = Flow::redis(&url, "test", FlowSettings::default(), now()).unwrap();
    let began = Instant::now();
    let permit = flow.acquire(HOST, &Limit { concurrency: Some(1), ..free() }, Duration::ZERO).await;
    flow.report(permit.unwrap_or_else(|e| panic!("a share: {e}")), Verdict::Success).await;
    assert_eq!(flow.states().await[0].in_flight, 0);
    assert!(began.elapsed() < Duration::from_secs(8), "the connection's own patience is 10 s");
}
