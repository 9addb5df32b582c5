//! Judges what a source gave before any of it is kept: pure. In come rows, what is archived and what is known of the exchange; out go the bars
//! that may be kept, and a finding for each thing that was repaired, refused or set aside.

mod actions;
mod continuity;
mod overlap;
mod row;
mod rule;

pub use actions::{LONGEST_GAP_DAYS, SAME_CLOSE};
pub use continuity::jump_limit;
pub use overlap::{Overlap, compare};
pub use row::range_limit;
pub use rule::{Finding, Rule, Severity, UnknownRule};

use crate::{Bar, Exchange, Factor, RawBar, Split, explaining};
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many common sessions decide whether a batch speaks of the security that we have archived.
pub const OVERLAP: usize = 10;

/// A row as it came, with its line where it came from a file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Row {
    /// 1-based; 0 where there are no lines.
    pub line: u64,
    /// What stood there.
    pub raw: RawBar,
}

/// A row that an earlier batch brought and that waits for a second word.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The rule that set it aside.
    pub rule: Rule,
    /// Who gave it.
    pub source: String,
    /// What was given.
    pub raw: RawBar,
}

/// What is known already.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Where it trades.
    pub exchange: Exchange,
    /// Who gives the rows.
    pub source: &'a str,
    /// The market's time.
    pub now: DateTime<Utc>,
    /// The archived bars, ascending.
    pub bars: &'a [Bar],
    /// Corporate actions that somebody announced.
    pub factors: &'a [Factor],
    /// Splits that the source announces beside the rows, ascending; the rows have them applied.
    pub splits: &'a [Split],
    /// Sessions of the exchange that were seen in any ticker's data, ascending.
    pub sessions: &'a [NaiveDate],
    /// What waits in the quarantine.
    pub pending: &'a [Pending],
    /// Rows, by session and close, that an operator has dismissed: they are never taken again by themselves.
    pub dismissed: &'a [(NaiveDate, f64)],
    /// Whether the source itself has compared its answer with the newest archived sessions, and gives only what is new.
    pub compared: bool,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// What may be kept: ascending, each session once.
    pub accepted: Vec<Bar>,
    /// Corporate actions that the published previous closes show.
    pub factors: Vec<Factor>,
    /// What was found, in the order of the rows as far as it is about rows.
    pub findings: Vec<Finding>,
    /// Waiting rows that this batch confirms, by their index, each with the reason.
    pub confirmed: Vec<(usize, String)>,
    /// The factor between the archived closes and these, when history was restated as a whole.
    pub restated: Option<f64>,
}

impl Judged {
    /// The finding for which nothing of the batch may be kept.
    pub fn whole(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule.severity() == Severity::Ticker)
    }

    /// Findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.rule.severity() == severity)
    }
}

/// Judges `rows`, the later of two with the same session being the newer.
pub fn judge(known: &Known<'_>, rows: &[Row]) -> Judged {
    let mut judged = Judged::default();
    let (bars, raws) = sound_rows(known, rows, &mut judged.findings);
    let all: Vec<Bar> = bars.values().copied().collect();
    match compare(&all, common_tail(known.bars, &bars)) {
        Overlap::Mismatch(why) => return set_aside_whole(judged, Rule::Disagrees, why),
        Overlap::Restated(factor) if !actions::plausible(factor) => {
            let why = format!("every common close is {factor:.4} times the archived one: no split is like that");
            return set_aside_whole(judged, Rule::Disagrees, why);
        }
        // A history that is restated in part would stand on two levels.
        Overlap::Restated(factor) if known.bars[0].session < all[0].session => {
            let older = known.bars.partition_point(|bar| bar.session < all[0].session);
            let why = format!(
                "every common close is {factor:.4} times the archived one, but {older} older sessions were not given anew"
            );
            return set_aside_whole(judged, Rule::Disagrees, why);
        }
        Overlap::Restated(factor) => {
            let why = match explaining(known.splits, factor) {
                Some(splits) => format!(
                    "older closes were all multiplied by {factor:.4}, as the split says that {} announces ({}): the history is taken anew",
                    known.source,
                    splits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
                None => format!(
                    "older closes were all multiplied by {factor:.4}, and no split was announced: the history is taken anew"
                ),
            };
            judged.findings.push(Finding::about(Rule::Restated, all[0].session, why));
            judged.restated = Some(factor);
        }
        Overlap::Apart | Overlap::Agrees => {}
    }
    let line = continuity::Line { known, fresh: &bars, raws: &raws, restated: judged.restated };
    if let Err((rule, why)) = line.follow(&mut judged) {
        return set_aside_whole(judged, rule, why);
    }
    if let Some(why) = actions::find(known, &mut judged) {
        return set_aside_whole(judged, Rule::Disagrees, why);
    }
    judged.factors.extend(actions::applied(known, &judged));
    actions::doubt_announced(known, &mut judged);
    name_idle_runs(&mut judged);
    judged.findings.sort_by_key(|finding| (finding.row.line, finding.row.raw.session));
    judged
}

/// Rows that are sound by themselves, each session once, and how they stood in the source.
fn sound_rows(
    known: &Known<'_>,
    rows: &[Row],
    findings: &mut Vec<Finding>,
) -> (BTreeMap<NaiveDate, Bar>, BTreeMap<NaiveDate, Row>) {
    let (mut bars, mut raws) = (BTreeMap::new(), BTreeMap::<NaiveDate, Row>::new());
    for row in rows {
        let Some(bar) = row::check(known, row, findings) else { continue };
        if known.dismissed.iter().any(|(session, close)| *session == bar.session && *close == bar.close) {
            findings.push(Finding::of(Rule::Dismissed, row, "an operator has dismissed exactly this row"));
            continue;
        }
        if let Some(earlier) = bars.insert(bar.session, bar)
            && earlier != bar
        {
            let why = format!("the session stands there twice, with closes {} and {}", earlier.close, bar.close);
            findings.push(Finding::of(Rule::Duplicate, row, why));
        }
        raws.insert(bar.session, *row);
    }
    (bars, raws)
}

/// The newest archived bars of which the batch has the session too.
fn common_tail<'a>(archived: &'a [Bar], fresh: &BTreeMap<NaiveDate, Bar>) -> &'a [Bar] {
    let mut common = 0;
    let from = archived.iter().rposition(|bar| {
        common += usize::from(fresh.contains_key(&bar.session));
        common == OVERLAP
    });
    &archived[from.unwrap_or(0)..]
}

fn set_aside_whole(judged: Judged, rule: Rule, why: String) -> Judged {
    let mut findings = judged.findings;
    // What was found in single rows is of no use when none of them is kept.
    findings.retain(|finding| finding.rule.severity() == Severity::Reject);
    findings.push(Finding { rule, row: Row::default(), why });
    Judged { findings, ..Judged::default() }
}

/// How many equal closes without a trade are a run of its own.
const IDLE_RUN: usize = 5;

/// The stretches, by index, of at least five equal closes without a trade: they say nothing about how the price moves.
pub fn idle_runs(bars: &[Bar]) -> Vec<Range<usize>> {
    let idle = |pair: &[Bar]| pair.iter().all(|bar| bar.volume == Some(0.0)) && pair[0].close == pair[1].close;
    let (mut runs, mut from) = (Vec::new(), 0);
    for at in 1..=bars.len() {
        if bars.get(at - 1..=at).is_some_and(idle) {
            continue;
        }
        if at - from >= IDLE_RUN {
            runs.push(from..at);
        }
        from = at;
    }
    runs
}

/// Names them. They are kept: the close is the published one.
fn name_idle_runs(judged: &mut Judged) {
    for run in idle_runs(&judged.accepted) {
        let (first, last) = (&judged.accepted[run.start], &judged.accepted[run.end - 1]);
        let why = format!("{} sessions without a trade, up to {}", run.len(), last.session);
        judged.findings.push(Finding::about(Rule::NoTrade, first.session, why));
    }
}

/// The sessions of `bars`, to look them up.
fn sessions(bars: &[Bar]) -> BTreeSet<NaiveDate> {
    bars.iter().map(|bar| bar.session).collect()
}

#[cfg(test)]
mod tests;
