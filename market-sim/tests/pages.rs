//! The stand-in sites as a browser sees them: shapes, clock, faults, traps.

use market_sim::{Fault, FaultKind, Page, Sim, SimOptions, Site};
use serde_json::{Value, json};

async fn sim_at(start: &str) -> Sim {
    Sim::start(SimOptions { start: start.parse().unwrap(), ..SimOptions::default() }).await.unwrap()
}

fn browser() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().cookie_store(true).build().unwrap()
}

async fn get(url: String) -> (u16, String) {
    let answer = browser().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn chart(sim: &Sim, symbol: &str, query: &str) -> Value {
    let (status, text) = get(format!("{}/v8/finance/chart/{symbol}?{query}", sim.base_url())).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["chart"]["result"][0].clone()
}

#[tokio::test]
async fn the_chart_has_the_real_shape() {
    let sim = sim_at("2012-12-03T23:30:00Z").await;
    let chart = chart(&sim, "aapl", "range=5d").await;
    assert_eq!(chart["meta"]["symbol"], "AAPL");
    assert_eq!(chart["meta"]["exchangeTimezoneName"], "America/New_York");
    let timestamps: Vec<i64> = serde_json::from_value(chart["timestamp"].clone()).unwrap();
    assert_eq!(timestamps.last(), Some(&1_354_568_401), "today's row stands at the last trade, 16:00:01");
    assert_eq!(timestamps[0], 1_354_026_600 - 86_400, "the others at the open, 9:30");
    let close = chart["indicators"]["quote"][0]["close"].as_array().unwrap();
    assert_eq!(close.len(), timestamps.len());
    assert!((close.last().unwrap().as_f64().unwrap() - 586.19).abs() < 1e-4);
    assert_ne!(close.last().unwrap().as_f64(), Some(586.19), "float32 noise");
    let (status, text) = get(format!("{}/v8/finance/chart/NONE?range=5d", sim.base_url())).await;
    assert_eq!(status, 404);
    assert!(text.contains("No data found, symbol may be delisted"));
}

#[tokio::test]
async fn a_split_rewrites_the_past_on_its_day() {
    let sim = sim_at("2005-02-27T12:00:00Z").await;
    let query = "period1=1109000000&period2=1109700000";
    let before = chart(&sim, "AAPL", query).await;
    sim.set("2005-02-28T23:30:00Z".parse().unwrap()).unwrap();
    let after = chart(&sim, "AAPL", query).await;
    let first = |chart: &Value, name: &str| chart["indicators"]["quote"][0][name][0].as_f64().unwrap();
    assert!((first(&before, "close") - 2.0 * first(&after, "close")).abs() < 1e-3);
    assert_eq!(first(&before, "volume") * 2.0, first(&after, "volume"));
    assert!(before.get("events").is_none());
    assert_eq!(after["events"]["splits"]["1109601000"]["splitRatio"], "2:1");
}

#[tokio::test]
async fn while_the_market_is_open_today_is_not_finished() {
    let sim = sim_at("2012-12-03T17:00:00Z").await;
    let open = chart(&sim, "MSFT", "range=5d").await;
    let last = |chart: &Value| chart["timestamp"].as_array().unwrap().last().unwrap().as_i64().unwrap();
    assert_eq!(last(&open), 1_354_554_000, "the time of the last trade");
    assert_eq!(open["meta"]["regularMarketTime"], 1_354_554_000);
    let (_, page) = get(format!("{}/today-share-price", sim.base_url())).await;
    assert!(page.contains("<span class=\"text-org\">2012-12-03</span>"), "Kathmandu closed hours ago");
    sim.set("2012-12-04T09:00:00Z".parse().unwrap()).unwrap();
    let (_, page) = get(format!("{}/today-share-price", sim.base_url())).await;
    assert!(page.contains("<span class=\"text-org\">2012-12-03</span>"), "the session of the 4th is still open");
    sim.set("2012-12-08T12:00:00Z".parse().unwrap()).unwrap();
    let (_, page) = get(format!("{}/today-share-price", sim.base_url())).await;
    // Saturday repeats the last session of the week; which day that is depends on the invented holidays.
    let saturday: chrono::NaiveDate = "2012-12-08".parse().unwrap();
    let last = sim.world().sessions(market::Exchange::Nepse).range(..saturday).next_back().unwrap();
    assert!(page.contains(&format!("<span class=\"text-org\">{last}</span>")), "{last}");
}

#[tokio::test]
async fn the_storm_days_are_null_rows() {
    let sim = sim_at("2012-11-05T23:30:00Z").await;
    let chart = chart(&sim, "GOOG", "period1=1351200000&period2=1351900000").await;
    let close = chart["indicators"]["quote"][0]["close"].as_array().unwrap();
    assert_eq!(close.iter().filter(|cell| cell.is_null()).count(), 2);
}

#[tokio::test]
async fn the_history_wants_cookie_and_token_and_a_short_length() {
    let sim = sim_at("2012-12-03T23:30:00Z").await;
    let client = browser();
    let url = format!("{}/company-price-history", sim.base_url());
    let ask = |token: &str, length: usize| {
        let form =
            [("draw", "3"), ("start", "0"), ("company", "9001"), ("length", &length.to_string()), ("_token", token)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()));
        client.post(&url).header("X-CSRF-Token", token).form(&form)
    };
    let json = |answer: reqwest::Response| async { answer.json::<Value>().await.unwrap() };
    assert_eq!(client.get(&url).send().await.unwrap().status(), 405);
    let mismatch = ask("wrong", 50).send().await.unwrap();
    assert_eq!(mismatch.status(), 200);
    assert_eq!(json(mismatch).await, json!({ "message": "CSRF token mismatch." }));

    let page = client.get(format!("{}/company/demoba", sim.base_url())).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("id=\"companyid\" style=\"display:none\">9001<"));
    let token = page.split("name=\"_token\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    let good = json(ask(token, 50).send().await.unwrap()).await;
    let rows = good["data"].as_array().unwrap();
    assert_eq!((rows.len(), &good["draw"], &rows[0]["published_date"]), (50, &json!(3), &json!("2012-12-03")));
    assert!(good["recordsTotal"].as_u64().unwrap() > 1_000);
    let long = json(ask(token, 100).send().await.unwrap()).await;
    assert_eq!((&long["recordsTotal"], long["data"].as_array().unwrap().len()), (&json!(0), 0));
}

#[tokio::test]
async fn faults_come_and_go_over_http_and_requests_are_counted() {
    let sim = sim_at("2012-12-03T23:30:00Z").await;
    let page = format!("{}/today-share-price", sim.base_url());
    let order = |fault: Value| browser().post(format!("{}/sim/fault", sim.base_url())).json(&fault).send();
    let fault = order(json!({ "site": "sharesansar", "kind": "429", "times": 1 })).await.unwrap();
    assert_eq!(fault.status(), 200);
    assert_eq!(get(page.clone()).await.0, 429);
    assert_eq!(get(page.clone()).await.0, 200);
    assert_eq!(order(json!({ "site": "nowhere", "kind": "429" })).await.unwrap().status(), 400);
    for (kind, headers) in [(FaultKind::Layout21, 21), (FaultKind::Layout22, 22), (FaultKind::None, 24)] {
        sim.fault(Fault::new(Site::Sharesansar, kind));
        assert_eq!(get(page.clone()).await.1.matches("<th>").count(), headers);
    }
    sim.fault(Fault::new(Site::Sharesansar, FaultKind::Truncate));
    assert!(!get(page).await.1.contains("</html>"));
    assert_eq!(sim.requests()[&Site::Sharesansar][&Page::Today], 6);
}

#[tokio::test]
async fn the_clock_is_moved_over_http_and_kept_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = SimOptions { state: Some(folder.path().join("clock.json")), ..SimOptions::default() };
    let sim = Sim::start(options.clone()).await.unwrap();
    let answer = browser().post(sim.clock_url()).json(&json!({ "advance": "session" })).send().await.unwrap();
    let view: Value = answer.json().await.unwrap();
    assert_eq!(view["now"], "2012-12-02T23:30:00Z");
    assert_eq!(view["next"], "2012-12-03T23:30:00Z");
    let refused = browser().post(sim.clock_url()).json(&json!({ "advance": "year" })).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    sim.stop().await;
    let again = Sim::start(options).await.unwrap();
    assert_eq!(serde_json::to_value(again.clock()).unwrap(), view);
}

#[tokio::test]
async fn it_never_listens_beyond_this_machine() {
    let options = SimOptions { listen: "0.0.0.0:0".parse().unwrap(), ..SimOptions::default() };
    let refused = Sim::start(options).await.unwrap_err().to_string();
    assert!(refused.contains("loopback"), "{refused}");
}

#[tokio::test]
async fn the_fallbacks_have_their_shapes_and_traps() {
    let sim = sim_at("2012-12-03T23:30:00Z").await;
    let quote = |symbol: &str, query: &str| get(format!("{}/api/quote/{symbol}/historical?{query}", sim.base_url()));
    let (status, text) = quote("aapl", "assetclass=stocks&fromdate=2012-01-01&todate=2012-12-31").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let rows = answer["data"]["tradesTable"]["rows"].as_array().unwrap();
    assert_eq!((status, rows.len(), &rows[0]["date"]), (200, 14, &json!("12/03/2012")), "few rows without a limit");
    assert_eq!(rows[0]["close"], "$586.19");
    let (status, text) = quote("NONE", "limit=9999").await;
    assert_eq!(status, 200, "its errors come as pages");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["status"]["rCode"], 400);

    let url = format!("{}/CompanyDetail.aspx?symbol=DEMOBA", sim.base_url());
    let page = get(url.clone()).await.1;
    let field = |page: &str, name: &str| {
        let after = page.split(&format!("name=\"{name}\"")).nth(1).unwrap();
        after.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let post = |state: String, validation: String, button: &str, delta: bool| {
        let prefix = "ctl00$ContentPlaceHolder1$CompanyDetail1$";
        let form = [
            ("__VIEWSTATE".to_owned(), state),
            ("__EVENTVALIDATION".to_owned(), validation),
            ("ctl00$ScriptManager1".to_owned(), format!("{prefix}tabPanel|{prefix}{button}")),
        ];
        let request = browser().post(&url).form(&form);
        let request = if delta { request.header("X-MicrosoftAjax", "Delta=true") } else { request };
        async { request.send().await.unwrap().text().await.unwrap() }
    };
    let (state, validation) = (field(&page, "__VIEWSTATE"), field(&page, "__EVENTVALIDATION"));
    let whole = post(state.clone(), validation.clone(), "btnHistoryTab", false).await;
    assert_eq!(whole.matches("<tr>").count(), 31);
    assert_ne!(field(&whole, "__VIEWSTATE"), state, "each answer has a state of its own");
    let part = post(state.clone(), validation, "btnHistoryTab", true).await;
    assert!(part.starts_with("1|#||4|") && part.contains("|hiddenField|__VIEWSTATE|"), "{part}");
    assert!(post(state, "stale".to_owned(), "btnHistoryTab", true).await.contains("|error|500|"));
}
