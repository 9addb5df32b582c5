//! One row by itself: a bar, perhaps repaired, or the rule that it breaks.

use super::{Finding, Known, Row, Rule};
use crate::{Bar, BarFault, Exchange, RawBar, is_final};

/// How far outside [low, high] a close may lie, as a share of the bound. NEPSE has published closes weighted by volume, which may lie
/// outside what was traded; more than this is a misread row.
pub fn range_limit(exchange: Exchange) -> f64 {
    match exchange {
        Exchange::Nasdaq => 0.005,
        Exchange::Nepse => 0.03,
    }
}

/// The row as a bar; what was repaired or is wrong with it goes to `findings`.
pub(super) fn check(known: &Known<'_>, row: &Row, findings: &mut Vec<Finding>) -> Option<Bar> {
    let mut say = |rule: Rule, why: String| findings.push(Finding::of(rule, row, why));
    let bar = match row.raw.check() {
        Ok(bar) => bar,
        Err(fault) => {
            say(rule_of(&fault), fault.to_string());
            return None;
        }
    };
    if !is_final(known.exchange, bar.session, known.now) {
        let today = known.now.with_timezone(&known.exchange.zone()).date_naive();
        let rule = if bar.session > today { Rule::Future } else { Rule::Provisional };
        let still = if rule == Rule::Future { "the session has not been yet" } else { "the close may still change" };
        say(rule, format!("{still}: the market's day is {today}"));
        return None;
    }
    if let Some(outside) = outside(&bar).filter(|outside| *outside > 0.0) {
        let why = format!("the close {} is {:.2} % outside [low, high]", bar.close, outside * 100.0);
        if outside > range_limit(known.exchange) {
            say(Rule::Range, why);
            return None;
        }
        say(Rule::NearRange, why);
    }
    if let Some(open) = row.raw.open.filter(|_| bar.open.is_none()) {
        say(Rule::Open, format!("the open {open} is no price of this session: it becomes unknown"));
    }
    Some(bar)
}

/// By how much the close lies outside [low, high], as a share of the bound.
fn outside(bar: &Bar) -> Option<f64> {
    let above = bar.high.map(|high| bar.close / high - 1.0);
    let below = bar.low.map(|low| 1.0 - bar.close / low);
    match (above, below) {
        (Some(above), Some(below)) => Some(above.max(below)),
        (one, other) => one.or(other),
    }
}

fn rule_of(fault: &BarFault) -> Rule {
    match fault {
        BarFault::NoSession | BarFault::TooOld(_) => Rule::Date,
        BarFault::NoClose | BarFault::NotAPrice { .. } => Rule::Price,
        BarFault::Crossed { .. } => Rule::Crossed,
        BarFault::Volume(_) => Rule::Volume,
    }
}

impl From<&Bar> for RawBar {
    fn from(bar: &Bar) -> Self {
        Self {
            session: Some(bar.session),
            open: bar.open,
            high: bar.high,
            low: bar.low,
            close: Some(bar.close),
            ltp: bar.ltp,
            prev_close: bar.prev_close,
            volume: bar.volume,
        }
    }
}
