//! What was last heard of each host, for people: when it answered well, when and how it failed, at what pace it is asked. It decides nothing, so it
//! is kept beside the gates, and a note that is lost is lost.

use super::gate::Micros;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What is known of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// When a request last ended well.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When one last failed.
    pub last_error_at: Option<DateTime<Utc>>,
    /// What kind of failure that was.
    pub last_error: Option<String>,
    /// The least time between two requests that was kept then.
    pub pause: Option<Duration>,
}

/// How one request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The kind of failure; `None` when it ended well.
    pub error: Option<&'a str>,
    /// The least time between two requests that was kept.
    pub pause: Option<Duration>,
}

pub(super) fn at(micros: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

impl Heard {
    /// The fields of a note, as Redis keeps them.
    pub(super) fn fields(ending: Ending<'_>, now: Micros) -> Vec<(&'static str, String)> {
        let mut fields = match ending.error {
            None => vec![("ok_at", now.to_string())],
            Some(kind) => vec![("error_at", now.to_string()), ("error", kind.to_owned())],
        };
        fields.push(("pause_ms", ending.pause.map_or_else(String::new, |pause| pause.as_millis().to_string())));
        fields
    }

    /// Takes note of `fields`.
    pub(super) fn take<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (field, text) in fields {
            let instant = || text.parse().ok().map(at);
            match field {
                "ok_at" => self.last_success_at = instant(),
                "error_at" => self.last_error_at = instant(),
                "error" => self.last_error = Some(text.to_owned()),
                "pause_ms" => self.pause = text.parse().ok().map(Duration::from_millis),
                _ => {}
            }
        }
    }
}

/// The notes of this process.
#[derive(Default)]
pub(super) struct Notes(Mutex<BTreeMap<String, Heard>>);

impl Notes {
    pub(super) fn take(&self, key: &str, fields: &[(&'static str, String)]) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = notes.entry(key.to_owned()).or_default();
        heard.take(fields.iter().map(|(field, text)| (*field, text.as_str())));
    }

    pub(super) fn all(&self) -> BTreeMap<String, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_hide_the_last_success() {
        let notes = Notes::default();
        let pause = Some(Duration::from_secs(5));
        notes.take("a", &Heard::fields(Ending { error: None, pause }, 1_000_000));
        notes.take("a", &Heard::fields(Ending { error: Some("blocked"), pause: None }, 2_000_000));
        let heard = &notes.all()["a"];
        assert_eq!((heard.last_success_at, heard.last_error_at), (Some(at(1_000_000)), Some(at(2_000_000))));
        assert_eq!((heard.last_error.as_deref(), heard.pause), (Some("blocked"), None));
    }
}
