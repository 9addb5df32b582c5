//! Corporate actions that nobody needs to announce to us: the exchange publishes the previous close as it stands after them. In come the
//! accepted bars, out go factors, and a warning where sessions are missing in between.

use super::continuity::merged;
use super::{Finding, Judged, Known, Rule, sessions};
use crate::{Bar, Factor, round4};

/// Closes that differ by no more are the same close: published percentages are rounded.
pub const SAME_CLOSE: f64 = 0.005;

/// In a longer gap rows are surely missing, whether or not another ticker has them.
pub const LONGEST_GAP_DAYS: i64 = 30;

/// No bonus, right issue or split that we know of is larger. What is, is another security's price.
const LARGEST_ACTION: f64 = 50.0;

/// The same for what a single published previous close claims: bonuses of NEPSE reach 1 : 1, with a right issue on top.
const LARGEST_CLAIM: f64 = 5.0;

/// Whether a split or bonus may be of this size.
pub(super) fn plausible(factor: f64) -> bool {
    (1.0 / LARGEST_ACTION..=LARGEST_ACTION).contains(&factor)
}

pub(super) fn is_level(close: f64) -> bool {
    close.is_finite() && close > 0.0
}

/// Notes the factors in `judged`. The answer is why the whole batch cannot be of this ticker, if it cannot.
pub(super) fn find(known: &Known<'_>, judged: &mut Judged) -> Option<String> {
    let fresh = sessions(&judged.accepted);
    let first = judged.accepted.first()?.session;
    let beside = known.bars.partition_point(|bar| bar.session < first).saturating_sub(1);
    let waiting: Vec<Bar> = judged.confirmed.iter().filter_map(|(at, _)| known.pending[*at].raw.check().ok()).collect();
    let accepted: Vec<Bar> = waiting.into_iter().chain(judged.accepted.iter().copied()).collect();
    let all = merged(&known.bars[beside..], &accepted);
    for pair in all.windows(2) {
        let [before, bar] = pair else { continue };
        let Some(published) = bar.prev_close.filter(|_| fresh.contains(&bar.session)) else { continue };
        let factor = published / before.close;
        let announced = known.factors.iter().any(|given| given.session == bar.session);
        if (factor - 1.0).abs() <= SAME_CLOSE || announced {
            continue;
        }
        let said = format!("the published previous close {published} is {factor:.4} times ours, {}", before.close);
        let missing = missing(known, before, bar);
        if missing.is_none() && !(1.0 / LARGEST_CLAIM..=LARGEST_CLAIM).contains(&factor) {
            return Some(format!("{}: {said}", bar.session));
        }
        match missing {
            None => judged.factors.push(Factor { session: bar.session, factor: round4(factor) }),
            Some(missing) => {
                let why = format!(
                    "{said}, but {missing}: no action is taken from it; announce it by a factor file if there was one"
                );
                judged.findings.push(Finding::about(Rule::UnsureAction, bar.session, why));
            }
        }
    }
    None
}

/// Names the announced actions that follow on a gap: the factor may hold what happened in the missing sessions too.
pub(super) fn doubt_announced(known: &Known<'_>, judged: &mut Judged) {
    let all = merged(known.bars, &judged.accepted);
    let fresh = sessions(&judged.accepted);
    for pair in all.windows(2) {
        let [before, bar] = pair else { continue };
        let days = (bar.session - before.session).num_days();
        let acts = |factor: &&Factor| factor.session > before.session && factor.session <= bar.session;
        if days <= LONGEST_GAP_DAYS || !fresh.contains(&bar.session) {
            continue;
        }
        for factor in known.factors.iter().filter(acts).filter(|factor| factor.factor != 1.0) {
            let why = format!(
                "the action of {} by {} was announced, but the bar before it is of {}, {days} days earlier: it may hold what happened in between",
                factor.session, factor.factor, before.session
            );
            judged.findings.push(Finding::about(Rule::UnsureAction, factor.session, why));
        }
    }
}

/// Corporate actions that a restated history has applied to the past: from now on they stand as 1, or they would act twice. That it has applied
/// one shows in the rows: across its session they change by so much less than the archived ones do.
pub(super) fn applied(known: &Known<'_>, judged: &Judged) -> Vec<Factor> {
    if judged.restated.is_none() {
        return Vec::new();
    }
    let across = |bars: &[Bar], action: &Factor| {
        let at = bars.partition_point(|bar| bar.session < action.session);
        Some(bars.get(at)?.close / bars[at.checked_sub(1)?].close)
    };
    let acts_twice = |action: &&Factor| {
        let changes = across(&judged.accepted, action).zip(across(known.bars, action));
        action.factor != 1.0
            && changes.is_some_and(|(now, then)| (now * action.factor / then - 1.0).abs() <= 2.0 * SAME_CLOSE)
    };
    known.factors.iter().filter(acts_twice).map(|action| Factor { factor: 1.0, ..*action }).collect()
}

/// What is missing between two bars of a ticker, in words.
fn missing(known: &Known<'_>, before: &Bar, bar: &Bar) -> Option<String> {
    let days = (bar.session - before.session).num_days();
    if days > LONGEST_GAP_DAYS {
        return Some(format!("{days} days lie in between"));
    }
    let from = known.sessions.partition_point(|session| *session <= before.session);
    let until = known.sessions.partition_point(|session| *session < bar.session);
    (until > from)
        .then(|| format!("{} sessions of the exchange are missing, {} first", until - from, known.sessions[from]))
}
