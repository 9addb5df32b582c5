//! Do the rows follow on one another, and on what is archived? A close far from its reference is believed when the next session goes on from
//! it, or when another source says the same.

use super::actions::{self, SAME_CLOSE};
use super::{Finding, Judged, Known, Row, Rule, row};
use crate::{Bar, Exchange, Factor};
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// The change of one session beyond which a close must be confirmed. NEPSE stops trading at 10 % from the reference price, and prices are
/// rounded; NASDAQ knows no such limit, but a quarter in one day is more often a split than a day.
pub fn jump_limit(exchange: Exchange) -> f64 {
    match exchange {
        Exchange::Nasdaq => 0.25,
        Exchange::Nepse => 0.105,
    }
}

/// After so long a pause a change of one session's size says nothing.
const PAUSE_DAYS: i64 = 30;

/// After a pause, a close so many times higher or lower is not believed to be of the same security.
const LEVELS_APART: f64 = 5.0;

/// The rows of a batch, and what they are to follow on.
pub(super) struct Line<'a> {
    pub(super) known: &'a Known<'a>,
    /// Rows that are sound by themselves.
    pub(super) fresh: &'a BTreeMap<NaiveDate, Bar>,
    /// The same as they came.
    pub(super) raws: &'a BTreeMap<NaiveDate, Row>,
    /// By which factor history was restated: archived closes are on another level then.
    pub(super) restated: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum From {
    Archive,
    Batch,
    Waiting(usize),
}

impl Line<'_> {
    /// Fills `accepted`, `confirmed` and the findings; `Err` when the batch as a whole does not follow on the archive.
    pub(super) fn follow(&self, judged: &mut Judged) -> Result<(), (Rule, String)> {
        let line = self.line();
        let mut last: Option<(Bar, From)> = None;
        for (at, (bar, from)) in line.iter().enumerate() {
            let archived = self.archived(bar.session);
            // What stands in the archive just so was judged when it came.
            let stands = *from == From::Archive || archived.is_some_and(|old| old.close == bar.close);
            let jump = last.as_ref().and_then(|(last, _)| self.jump(last, bar)).filter(|_| !stands);
            let Some(why) = jump else {
                self.keep(bar, *from, judged, last.as_ref().map(|(last, _)| last));
                last = Some((*bar, *from));
                continue;
            };
            let next = line.get(at + 1).filter(|(_, from)| !matches!(from, From::Waiting(_)));
            let goes_on = next.is_some_and(|(next, _)| self.goes_on(bar, next));
            let second = self.second_source(bar, *from);
            // The batch shares no session with the archive: nothing but the level tells that it is of the same security.
            let joins = last.as_ref().is_some_and(|(_, from)| *from == From::Archive) && *from == From::Batch;
            if joins && goes_on && !self.known.compared && self.restated.is_none() && self.apart() {
                return Err((Rule::Level, format!("{}: {why}, and no common session explains it", bar.session)));
            }
            match (goes_on, second) {
                (false, None) => self.leave(bar, *from, &why, judged),
                (_, second) => {
                    let said = second.unwrap_or_else(|| "the next session goes on from it".to_owned());
                    let announced = match self.known.splits.iter().find(|split| split.session == bar.session) {
                        Some(split) => format!("and the announced split, {split}, is of another size"),
                        None => "but nobody announced an action".to_owned(),
                    };
                    let finding = format!("{why}; {said}, {announced}");
                    judged.findings.push(Finding::of(Rule::Unannounced, &self.row(bar), finding));
                    self.keep(bar, *from, judged, last.as_ref().map(|(last, _)| last));
                    last = Some((*bar, *from));
                }
            }
        }
        Ok(())
    }

    /// Archive, batch and waiting rows as one line; of two with the same session the batch's counts.
    fn line(&self) -> Vec<(Bar, From)> {
        let mut line: BTreeMap<NaiveDate, (Bar, From)> = BTreeMap::new();
        for (index, waiting) in self.known.pending.iter().enumerate().filter(|(_, w)| w.rule == Rule::Jump) {
            let row = Row { line: 0, raw: waiting.raw };
            if let Some(bar) = row::check(self.known, &row, &mut Vec::new()) {
                line.insert(bar.session, (bar, From::Waiting(index)));
            }
        }
        let (first, last) = (self.fresh.keys().next(), self.fresh.keys().next_back());
        if let (Some(first), Some(last)) = (first, last) {
            // Of the archive only what lies beside the batch.
            let from = self.known.bars.partition_point(|bar| bar.session < *first).saturating_sub(1);
            let until = self.known.bars.partition_point(|bar| bar.session <= *last);
            let until = (until + 1).min(self.known.bars.len());
            let scale = self.restated.unwrap_or(1.0);
            line.extend(
                self.known.bars[from..until]
                    .iter()
                    .map(|bar| (bar.session, (Bar { close: bar.close * scale, ..*bar }, From::Archive))),
            );
        }
        line.extend(self.fresh.iter().map(|(session, bar)| (*session, (*bar, From::Batch))));
        line.into_values().collect()
    }

    /// Why `bar` is too far from what came before it; `None` when it is not.
    fn jump(&self, last: &Bar, bar: &Bar) -> Option<String> {
        let limit = jump_limit(self.known.exchange);
        let (reference, of) = match bar.prev_close {
            Some(published) => (published, "the published previous close"),
            None => (last.close * self.announced(last.session, bar.session), "the close before it"),
        };
        let change = bar.close / reference - 1.0;
        if bar.prev_close.is_none() && (bar.session - last.session).num_days() > PAUSE_DAYS {
            let far = (bar.close / reference).ln().abs() > LEVELS_APART.ln();
            return far.then(|| format!("the close {} after a long pause is {:+.0} %", bar.close, change * 100.0));
        }
        (change.abs() > limit)
            .then(|| format!("the close {} is {:+.1} % from {of}, {reference}", bar.close, change * 100.0))
    }

    /// Whether `next` takes `bar` for its previous close.
    fn goes_on(&self, bar: &Bar, next: &Bar) -> bool {
        let names = next.prev_close.is_some_and(|published| (published / bar.close - 1.0).abs() <= SAME_CLOSE);
        names || self.jump(bar, next).is_none() && next.prev_close.is_none()
    }

    /// What another source says of the same session, when it is the same.
    fn second_source(&self, bar: &Bar, from: From) -> Option<String> {
        if matches!(from, From::Waiting(_)) {
            return None;
        }
        let same = |close: f64| (close / bar.close - 1.0).abs() <= SAME_CLOSE;
        let agrees = self.known.pending.iter().find(|waiting| {
            waiting.source != self.known.source
                && waiting.raw.session == Some(bar.session)
                && waiting.raw.close.is_some_and(same)
        });
        agrees.map(|waiting| format!("{} and {} say the same", waiting.source, self.known.source))
    }

    fn keep(&self, bar: &Bar, from: From, judged: &mut Judged, last: Option<&Bar>) {
        let same = |close: f64| (close / bar.close - 1.0).abs() <= SAME_CLOSE;
        match from {
            From::Archive => {}
            From::Waiting(index) if last.is_some() => {
                judged.confirmed.push((index, "the next session goes on from it".to_owned()));
            }
            From::Waiting(_) => {}
            From::Batch => {
                judged.accepted.push(*bar);
                for (index, waiting) in self.known.pending.iter().enumerate() {
                    if waiting.raw.session == Some(bar.session) && waiting.raw.close.is_some_and(same) {
                        judged
                            .confirmed
                            .push((index, format!("{} gave the same close again, and it is sound", self.known.source)));
                    }
                }
            }
        }
    }

    fn leave(&self, bar: &Bar, from: From, why: &str, judged: &mut Judged) {
        if from == From::Batch {
            judged.findings.push(Finding::of(Rule::Jump, &self.row(bar), why));
        }
    }

    fn row(&self, bar: &Bar) -> Row {
        self.raws.get(&bar.session).copied().unwrap_or_else(|| Row { line: 0, raw: bar.into() })
    }

    fn archived(&self, session: NaiveDate) -> Option<&Bar> {
        let bars = self.known.bars;
        bars.binary_search_by_key(&session, |bar| bar.session).ok().map(|at| &bars[at])
    }

    fn apart(&self) -> bool {
        !self.known.bars.iter().any(|bar| self.fresh.contains_key(&bar.session))
    }

    fn announced(&self, after: NaiveDate, until: NaiveDate) -> f64 {
        let acts = |factor: &&Factor| factor.session > after && factor.session <= until;
        self.known.factors.iter().filter(acts).map(|factor| factor.factor).product()
    }
}

/// The bars of both, `fresh` over `archived`, ascending.
pub(super) fn merged(archived: &[Bar], fresh: &[Bar]) -> Vec<Bar> {
    let all = archived.iter().chain(fresh).map(|bar| (bar.session, *bar));
    all.collect::<BTreeMap<NaiveDate, Bar>>().into_values().filter(|bar| actions::is_level(bar.close)).collect()
}
