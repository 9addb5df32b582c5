//! Who is served: the ticker's own model, the global one, or the baseline. Judged by forecasts made in the shadow, before their outcome.

use crate::{
    recipe::Gate,
    track::{Entry, Said, Track},
};
use chrono::NaiveDate;
use market::MadeBy;

/// A judgement and its grounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Who is served.
    pub champion: MadeBy,
    /// Why, in words.
    pub reason: String,
    /// Whether the own model has fallen so far behind that it should begin again.
    pub restart: bool,
}

/// Judges by the newest realised sessions after `since`, the session at which the own line's copy was taken.
pub(crate) fn judge(own: Option<(&Track, NaiveDate)>, base: &Track, gate: &Gate) -> Verdict {
    let (mut verdict, record) = match own {
        None => (told(MadeBy::Global, "it has no model of its own yet"), base.newest(gate.sessions, NaiveDate::MIN)),
        Some((own, since)) => {
            let verdict = own_or_global(own.newest(gate.sessions, since), base, gate);
            let record = if verdict.champion == MadeBy::Own { own } else { base };
            (verdict, record.newest(gate.sessions, NaiveDate::MIN))
        }
    };
    if record.len() >= gate.sessions {
        let ratio = mean(record, |e| e.said.wis(e.z) * e.sigma) / mean(record, |e| Said::baseline().wis(e.z) * e.sigma);
        if ratio > gate.baseline || !ratio.is_finite() {
            let why = format!(
                "its intervals were {:.1} % worse than the baseline's over {} sessions",
                100.0 * (ratio - 1.0),
                record.len()
            );
            verdict = Verdict { champion: MadeBy::Baseline, reason: why, ..verdict };
        }
    }
    verdict
}

fn own_or_global(shadow: &[Entry], base: &Track, gate: &Gate) -> Verdict {
    let pairs: Vec<(&Entry, &Entry)> =
        shadow.iter().filter_map(|own| base.at(own.session).map(|base| (own, base))).collect();
    let n = pairs.len();
    if n < gate.sessions_min {
        return told(
            MadeBy::Global,
            &format!("its own model has {n} realised forecasts of the {} needed", gate.sessions_min),
        );
    }
    // Above 0: the own model gave more density to what came.
    let gains: Vec<f64> = pairs.iter().map(|(own, base)| base.belief.nll(base.z) - own.belief.nll(own.z)).collect();
    let gain = gains.iter().sum::<f64>() / n as f64;
    let variance = gains.iter().map(|g| (g - gain) * (g - gain)).sum::<f64>() / n as f64;
    let error = (variance / n as f64).sqrt();
    let held = shadow.iter().filter(|e| e.said.holds80(e.z)).count() as f64 / shadow.len() as f64;
    // A NaN is no gain.
    let worse_by = |errors: f64| gain.is_nan() || gain < -errors * error;
    let restart = worse_by(gate.restart);
    if worse_by(gate.adopt) {
        let why = format!("its own model was worse over {n} sessions: {gain:+.4} ± {error:.4} log density a session");
        return Verdict { restart, ..told(MadeBy::Global, &why) };
    }
    if held < gate.coverage.0 || held > gate.coverage.1 {
        let why = format!("its own model's 80 % intervals held {:.0} % of {} closes", 100.0 * held, shadow.len());
        return Verdict { restart, ..told(MadeBy::Global, &why) };
    }
    told(
        MadeBy::Own,
        &format!("not worse than the global model over {n} sessions: {gain:+.4} ± {error:.4} log density a session"),
    )
}

fn told(champion: MadeBy, why: &str) -> Verdict {
    Verdict { champion, reason: why.to_owned(), restart: false }
}

fn mean(entries: &[Entry], of: impl Fn(&Entry) -> f64) -> f64 {
    entries.iter().map(of).sum::<f64>() / entries.len() as f64
}
