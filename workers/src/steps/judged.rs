//! What of a scraped batch may be kept. In come the batch and the archive, out go the sound part of it, what is set aside, and words for the run.

use chrono::{DateTime, NaiveDate, Utc};
use market::validate::{self, Finding, Judged, Known, Row, Rule, Severity};
use market::{Bar, Batch, Factor, Ticker};
use workflows::Effect;
use workflows::stores::quarantine::{SetAside, Standing};

/// A batch after its judgement.
#[derive(Default)]
pub(super) struct Sifted {
    /// What may be staged; `None` when nothing of it may be believed.
    pub(super) batch: Option<Batch>,
    /// What follows for the quarantine.
    pub(super) effects: Vec<Effect>,
    /// What a reader of the run should know; empty when all was sound.
    pub(super) said: String,
}

impl Sifted {
    /// Names first what was tried in vain.
    pub(super) fn after(mut self, failed: &[String]) -> Self {
        let said = failed.iter().cloned().chain(Some(self.said).filter(|said| !said.is_empty()));
        self.said = said.collect::<Vec<_>>().join("; ");
        self
    }
}

/// What is archived already.
pub(super) struct Archive<'a> {
    /// The ticker's bars, ascending.
    pub(super) bars: &'a [Bar],
    /// Its corporate actions.
    pub(super) announced: Vec<Factor>,
    /// Sessions of its exchange, ascending.
    pub(super) sessions: &'a [NaiveDate],
}

/// Judges a batch. Its source has compared it with the archive already.
pub(super) fn sift(mut batch: Batch, archived: Archive<'_>, standing: &Standing, now: DateTime<Utc>) -> Sifted {
    // What a source takes from a published previous close is found here again, by the same rule for all sources.
    let published =
        |factor: &Factor| batch.bars.iter().any(|bar| bar.session == factor.session && bar.prev_close.is_some());
    let announced: Vec<Factor> = batch.factors.iter().filter(|factor| !published(factor)).copied().collect();
    let mut factors = archived.announced;
    factors.extend(&announced);
    let known = Known {
        exchange: batch.ticker.exchange(),
        source: &batch.source,
        now,
        bars: archived.bars,
        factors: &factors,
        splits: &batch.splits,
        sessions: archived.sessions,
        pending: &standing.pending,
        dismissed: &standing.dismissed,
        compared: true,
    };
    let rows: Vec<Row> = batch.bars.iter().map(|bar: &Bar| Row { line: 0, raw: bar.into() }).collect();
    let judged = validate::judge(&known, &rows);
    let set_aside = SetAside::of(&batch, &judged, standing);
    let mut effects: Vec<Effect> = set_aside.map(|what| Effect::SetAside(Box::new(what))).into_iter().collect();
    let said = in_words(&judged);
    if judged.whole().is_some() {
        return Sifted { batch: None, effects, said };
    }
    if !batch.bars.is_empty() {
        effects.push(Effect::Agrees(batch.source.clone()));
    }
    batch.bars = judged.accepted;
    batch.factors = announced;
    batch.factors.extend(judged.factors);
    batch.factors.sort_by_key(|factor| factor.session);
    Sifted { batch: Some(batch), effects, said }
}

/// The sources said that what they have is of another security: nothing came that could be looked at.
pub(super) fn refused(ticker: &Ticker, source: &str, why: String, now: DateTime<Utc>) -> Sifted {
    let said = format!("set aside what {source} has: {why}");
    let finding = Finding { rule: Rule::Identity, row: Row::default(), why };
    let what = SetAside {
        ticker: ticker.clone(),
        source: source.to_owned(),
        body_sha256: String::new(),
        fetched_at: now,
        rows: Vec::new(),
        whole: Some((finding, None)),
        confirmed: Vec::new(),
        restated: None,
    };
    Sifted { batch: None, effects: vec![Effect::SetAside(Box::new(what))], said }
}

/// How many findings are told one by one.
const TOLD: usize = 3;

fn in_words(judged: &Judged) -> String {
    let told = |severity, word: &str| {
        let all: Vec<String> = judged.of(severity).map(|finding| format!("{} ({})", finding, finding.rule)).collect();
        let more = if all.len() > TOLD { format!(" and {} more", all.len() - TOLD) } else { String::new() };
        (!all.is_empty()).then(|| format!("{word} {}{more}", all[..all.len().min(TOLD)].join("; ")))
    };
    let confirmed =
        (!judged.confirmed.is_empty()).then(|| format!("took in {} rows that had waited", judged.confirmed.len()));
    let parts = [
        told(Severity::Ticker, "set aside all of it:"),
        told(Severity::Row, "set aside"),
        confirmed,
        told(Severity::Warn, "noted"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
