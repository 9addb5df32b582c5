//! What a host's robots.txt allows us, kept for a day: in comes its text, or the word that there is none, out comes yes or no.

use reqwest::Url;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use texting_robots::Robot;
use tokio::time::Instant;

/// How long an answer counts.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long it counts that there was no answer.
const KEPT_UNREACHED: Duration = Duration::from_secs(3600);

/// The rules of one host for us.
pub(crate) struct Rules {
    until: Instant,
    /// `None`: everything is allowed.
    robot: Option<Robot>,
}

/// A host's rules, and whoever is just reading them.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Arc<Rules>>>>;

/// The rules of all hosts that were asked.
#[derive(Default)]
pub(crate) struct Robots {
    hosts: Mutex<HashMap<String, Slot>>,
}

impl Robots {
    /// The place of a host, made on first use.
    pub(crate) fn slot(&self, url: &Url) -> Slot {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(url.origin().ascii_serialization()).or_default().clone()
    }

    /// Whether nothing that was read forbids the page; nothing is read for it.
    pub(crate) fn known_to_allow(&self, url: &Url) -> bool {
        // Whoever reads the rules anew just now holds the place: then the old ones did not forbid the visit's first page either.
        self.slot(url).try_lock().map_or(true, |kept| kept.as_ref().is_none_or(|rules| rules.allow(url)))
    }
}

impl Rules {
    /// What the text says to `RetainAI`. Words that are no rules forbid nothing.
    pub(crate) fn read(text: &str) -> Self {
        Self { until: Instant::now() + KEPT, robot: Robot::new("RetainAI", text.as_bytes()).ok() }
    }

    /// A host that has no rules.
    pub(crate) fn none() -> Self {
        Self { until: Instant::now() + KEPT, robot: None }
    }

    /// A host that could not be asked: it forbids nothing, and is asked again soon.
    pub(crate) fn unreached() -> Self {
        Self { until: Instant::now() + KEPT_UNREACHED, robot: None }
    }

    /// Whether they still count.
    pub(crate) fn count(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether we may ask for this page.
    pub(crate) fn allow(&self, url: &Url) -> bool {
        self.robot.as_ref().is_none_or(|robot| robot.allowed(url.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allow(text: &str, path: &str) -> bool {
        Rules::read(text).allow(&Url::parse(&format!("https://site.example{path}")).unwrap())
    }

    #[test]
    fn rules_for_all_and_rules_for_us() {
        let all = "User-agent: *\nDisallow: /company-price-history\nAllow: /company\n";
        assert!(allow(all, "/company/nabil") && !allow(all, "/company-price-history"));
        let us = "User-agent: *\nDisallow: /\n\nUser-agent: RetainAI\nDisallow: /private\n";
        assert!(allow(us, "/today-share-price") && !allow(us, "/private/x"));
        assert!(!allow("User-agent: *\nDisallow: /", "/today-share-price"));
        assert!(!allow("User-agent: *\nDisallow: /*symbol=", "/CompanyDetail.aspx?symbol=NABIL"));
        assert!(allow("", "/x") && allow("<html>404</html>", "/x"));
        assert!(Rules::none().allow(&Url::parse("https://site.example/x").unwrap()) && Rules::unreached().count());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,300}", path in "/[a-z/?=*$]{0,20}") {
            let _ = allow(&text, &path);
            let _ = allow(&format!("User-agent: *\nDisallow: {text}"), &path);
        }
    }
}
