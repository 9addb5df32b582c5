//! What a host's robots.txt allows us, and at which pace, kept for a day: in comes its text, or the word that there is none, out comes yes or no.

use reqwest::Url;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use texting_robots::Robot;
use tokio::time::Instant;
use workflows::flow::Limit;

/// How long an answer counts.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long it counts that there was no answer.
const KEPT_UNREACHED: Duration = Duration::from_secs(3600);

/// A slower pace than this is not kept: a visit of a few pages would not end within its step. Who asks for more means something else.
const SLOWEST: Duration = Duration::from_secs(30);

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

    /// The least time between two requests that it asks for (`Crawl-delay`), as far as we go along with it.
    pub(crate) fn delay(&self) -> Option<Duration> {
        let seconds = f64::from(self.robot.as_ref()?.delay?);
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(SLOWEST.as_secs_f64())))
    }

    /// The limit, with the host's own pace where that is slower. Then it is asked for one page at a time.
    pub(crate) fn slowed(&self, limit: Limit) -> Limit {
        let Some(delay) = self.delay() else { return limit };
        let rate = 1.0 / delay.as_secs_f64();
        match limit.rate {
            Some(ours) if ours <= rate => limit,
            _ => Limit { rate: Some(rate), burst: 1, concurrency: Some(1), ..limit },
        }
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

    #[test]
    fn the_slower_of_two_paces_counts() {
        let slowed = |text: &str, pause_ms: u64| {
            let limit = Rules::read(text).slowed(Limit::paced(Duration::from_millis(pause_ms)));
            (limit.rate.map(|rate| (1000.0 / rate).round()), limit.concurrency)
        };
        let five = "User-agent: *\nCrawl-delay: 5\n";
        assert_eq!(slowed(five, 1_000), (Some(5_000.0), Some(1)));
        assert_eq!(slowed(five, 0), (Some(5_000.0), Some(1)), "also where we set none");
        assert_eq!(slowed(five, 8_000), (Some(8_000.0), Some(1)));
        assert_eq!(slowed("User-agent: *\nCrawl-delay: 0.5\n", 1_000).0, Some(1_000.0));
        assert_eq!(slowed("User-agent: *\nCrawl-delay: 86400\n", 1_000).0, Some(30_000.0), "as far as makes sense");
        for none in [
            "User-agent: *\nCrawl-delay: soon\n",
            "User-agent: *\nCrawl-delay: -3\n",
            "User-agent: *\nCrawl-delay: NaN\n",
            "",
        ] {
            assert_eq!(slowed(none, 0), (None, None), "{none}");
        }
        let us = "User-agent: *\nCrawl-delay: 20\n\nUser-agent: RetainAI\nCrawl-delay: 2\n";
        assert_eq!(slowed(us, 1_000).0, Some(2_000.0), "what is said to us counts");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,300}", path in "/[a-z/?=*$]{0,20}") {
            let _ = allow(&text, &path);
            let _ = allow(&format!("User-agent: *\nDisallow: {text}"), &path);
            let _ = Rules::read(&format!("User-agent: *\nCrawl-delay: {text}")).slowed(Limit::paced(Duration::ZERO));
        }
    }
}
