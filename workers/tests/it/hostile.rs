//! Sites that refuse, break off, change, lie or never end: every source answers with a typed error, in bounded time and memory.

use crate::sources::Bench;
use market::Batch;
use market_sim::{Fault, FaultKind, Page, Site};
use std::time::Duration;
use workers::sources::{Key, Retry, SourceError, SourceErrorKind as Kind};

const WEB: [&str; 5] = ["yahoo", "nasdaq", "tiingo", "sharesansar", "merolagani"];

async fn with_fault(name: &str, kind: FaultKind) -> Result<Batch, SourceError> {
    let bench = Bench::new(name).await;
    bench.sim.fault(Fault { delay_ms: Some(4_000), ..Fault::new(bench.site.unwrap(), kind) });
    bench.fetch(&[]).await
}

async fn kind(name: &str, fault: FaultKind) -> Kind {
    with_fault(name, fault).await.unwrap_err().kind
}

#[tokio::test]
async fn a_site_that_refuses_or_breaks_off() {
    for name in WEB {
        let pause = Some(Duration::from_secs(1));
        assert_eq!(kind(name, FaultKind::TooMany).await, Kind::RateLimited { retry_after: pause }, "{name}");
        assert!(matches!(kind(name, FaultKind::Broken).await, Kind::Transport(_)), "{name}");
        assert!(matches!(kind(name, FaultKind::Challenge).await, Kind::Blocked(_)), "{name}");
        let cut = kind(name, FaultKind::Truncate).await;
        assert!(!matches!(cut, Kind::NotFound), "{name}: {cut}");
    }
}

#[tokio::test]
async fn a_site_that_is_slow() {
    let slow = WEB.map(|name| kind(name, FaultKind::Slow));
    for kind in futures::future::join_all(slow).await {
        assert!(matches!(kind, Kind::Transport(_)), "{kind}");
    }
}

#[tokio::test]
async fn an_answer_that_is_huge_or_never_ends_is_let_go() {
    for name in WEB {
        for fault in [FaultKind::GzipBomb, FaultKind::Endless] {
            let refused = kind(name, fault).await;
            assert!(refused.to_string().contains("5 MiB"), "{name}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_site_that_speaks_of_another_security_or_of_none() {
    for name in WEB {
        assert!(matches!(kind(name, FaultKind::WrongSymbol).await, Kind::Identity { .. }), "{name}");
        assert_eq!(kind(name, FaultKind::Empty).await, Kind::Empty, "{name}");
    }
}

#[tokio::test]
async fn a_changed_page_is_refused_for_good_and_a_refused_token_is_not() {
    for name in WEB {
        // ShareSansar asks for today's page first, whose columns change.
        let changed = with_fault(name, FaultKind::LayoutChanged).await.unwrap_err();
        assert!(matches!(changed.kind, Kind::LayoutChanged { .. }), "{name}: {changed}");
        assert_eq!(changed.retry(), Retry::Never, "{name}");
    }
    for name in ["sharesansar", "merolagani"] {
        assert_eq!(kind(name, FaultKind::Csrf).await, Kind::SessionExpired, "{name}");
    }
}

#[tokio::test]
async fn a_page_of_the_session_before_brings_nothing_and_hides_nothing() {
    for name in WEB {
        let bench = Bench::new(name).await;
        let known = bench.fetch(&[]).await.unwrap().bars;
        let session = bench.next_session();
        bench.sim.fault(Fault::new(bench.site.unwrap(), FaultKind::Stale));
        let stale = bench.fetch(&known).await.unwrap();
        assert!(stale.bars.is_empty() && stale.page_session < Some(session), "{name}: {stale:?}");
        bench.sim.fault(Fault::new(bench.site.unwrap(), FaultKind::None));
        assert_eq!(bench.fetch(&known).await.unwrap().bars.last().map(|bar| bar.session), Some(session), "{name}");
    }
}

#[tokio::test]
async fn a_site_whose_robots_txt_asks_us_to_stay_away_is_left_alone() {
    for name in WEB {
        let bench = Bench::new(name).await;
        bench.sim.fault(Fault::new(bench.site.unwrap(), FaultKind::Disallow));
        let refused = bench.fetch(&[]).await.unwrap_err();
        assert!(matches!(refused.kind, Kind::Blocked(_)) && refused.to_string().contains("robots.txt"), "{refused}");
        assert!(bench.sim.requests().is_empty(), "{name}: nothing but robots.txt was asked for");
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_an_error_that_names_its_setting_and_not_the_key() {
    let mut bench = Bench::new("tiingo").await;
    bench.use_key(Key::new("a-wrong-key"));
    for known in [vec![], bench.truth()] {
        let refused = bench.fetch(&known).await.unwrap_err();
        assert!(matches!(&refused.kind, Kind::Key { setting: "tiingo_key", .. }), "{refused}");
        assert!(
            refused.to_string().contains("`tiingo_key`") && !refused.to_string().contains("a-wrong-key"),
            "{refused}"
        );
        assert_eq!((refused.retry(), refused.kind.word()), (Retry::Never, "key"));
    }
    assert_eq!(format!("{:?}", Key::new("a-wrong-key")), "Key(***)");
}

#[tokio::test]
async fn a_fund_is_found_among_funds_and_looked_for_there_the_next_time() {
    let bench = Bench::new("nasdaq").await;
    bench.sim.fault(Fault::new(Site::Nasdaq, FaultKind::Fund));
    let asked = || bench.sim.requests()[&Site::Nasdaq][&Page::Quote];
    let known = bench.fetch(&[]).await.unwrap().bars;
    assert!(known.len() > 150 && asked() == 2, "{} bars, {} requests", known.len(), asked());
    let session = bench.next_session();
    let news = bench.fetch(&known).await.unwrap();
    assert_eq!((news.bars[0].session, news.bars.len(), asked()), (session, 1, 3));
}
