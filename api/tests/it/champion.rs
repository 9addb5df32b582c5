//! Forecasts of tickers whose model serves: made on a miss, stored, cached, listed.

use crate::{FRIDAY, MONDAY, World, ask, csv, date, weekdays};
use forecast::{Global, MarketReturns, Pretrain, Recipe, Trust, pretrain};
use market::{Series, Ticker};
use poem::Body;
use poem::http::Method;
use workflows::message::Message;
use workflows::plan::{PRETRAIN, Step};
use workflows::stores::{archive, globals::NewGlobal, models::NewModel};
use workflows::{Effect, Outcome};

const AAPL: &str = "/v1/forecasts/NASDAQ/AAPL";

/// Trains a global model on the archived bars of the ticker and registers it as a pre-training does; a small one, that learns and speaks early.
async fn train(world: &World, ticker: &str) -> String {
    let ticker = Ticker::parse(ticker).unwrap();
    let series = archive::series(&world.stores.db, &ticker).await.unwrap().unwrap();
    let global = small_global(&series);
    register_global(world, &global).await;
    global.hash().to_owned()
}

pub(crate) fn small_global(series: &Series) -> Global {
    let exchange = series.ticker().exchange();
    let whole = Recipe::of(exchange);
    let pretraining = Pretrain { windows_min: 5, epochs: 1, ..whole.pretrain };
    let trust = Trust { closes_min: 16, ..whole.trust };
    let recipe = Recipe { members: 1, hidden: 4, pretrain: pretraining, trust, ..whole };
    pretrain(exchange, &[series], &MarketReturns::default(), &recipe, 1).unwrap().unwrap()
}

pub(crate) async fn register_global(world: &World, global: &Global) {
    let model = NewGlobal {
        hash: global.hash().to_owned(),
        exchange: global.exchange(),
        recipe: global.recipe().id(),
        seed: global.seed(),
        as_of: global.as_of(),
        cutoff: global.cutoff(),
        metrics: serde_json::json!({}),
        weights: global.to_bytes(),
    };
    let mut run = world.engine.manual_run(global.exchange(), global.as_of(), true, None);
    run.plan = &PRETRAIN;
    let run = world.engine.start(&[run]).await.unwrap()[0].id;
    let message = Message { run, step: Step::Pretrain, generation: 1, queue: Step::Pretrain.queue(10) };
    world.carry_out(&message, Outcome::Done("done".to_owned()), vec![Effect::Global(model)]).await;
}

#[tokio::test]
async fn a_miss_predicts_stores_and_caches() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 120).await;
    let model = train(&world, "NASDAQ:AAPL").await;
    let issued = world.get(AAPL).await;
    let body = issued.ok();
    assert_eq!((&body["made_by"], &body["model_version"]), (&"global".into(), &model.as_str().into()));
    assert_eq!((&body["as_of"], &body["target"], &body["cached"]), (&FRIDAY.into(), &MONDAY.into(), &false.into()));
    // The second reader is served from the cache and has the same forecast.
    let cached = world.get(AAPL).await.ok();
    assert_eq!((&cached["cached"], &cached["issued_at"]), (&true.into(), &body["issued_at"]));
    // A reader who has the one answer needs not be sent the other.
    let again = world.get_with(AAPL, &[("if-none-match", issued.header("etag"))]).await;
    assert_eq!(again.status, 304);
    assert_ne!(again.header("etag"), issued.header("etag"), "other bytes, another strong tag");
    // It is stored: listed, and found by a process whose cache is empty.
    let listed = world.get("/v1/forecasts?exchange=nasdaq").await.ok();
    assert_eq!(listed["items"][0]["point"], body["point"]);
    assert!(listed["items"][0].get("cached").is_none() && listed.get("next_cursor").is_none());
    world.clock.set("2024-01-27T12:00:00Z".parse().unwrap());
    let other = ask(&world.with_empty_cache(), Method::GET, AAPL, &[], Body::empty()).await.ok();
    assert_eq!((&other["cached"], &other["issued_at"]), (&false.into(), &body["issued_at"]));
}

#[tokio::test]
async fn newer_prices_make_a_newer_forecast() {
    let world = World::new().await;
    let all = weekdays(120);
    let (first, rest) = all.split_at(119);
    assert_eq!(world.put_csv("/v1/tickers/NASDAQ/AAPL/bars", csv(first)).await.ok()["new"], 119);
    train(&world, "NASDAQ:AAPL").await;
    assert_eq!(world.get(AAPL).await.ok()["target"], FRIDAY);
    world.put_csv("/v1/tickers/NASDAQ/AAPL/bars", csv(rest)).await.ok();
    let body = ask(&world.with_empty_cache(), Method::GET, AAPL, &[], Body::empty()).await.ok();
    assert_eq!((&body["as_of"], &body["target"], &body["made_by"]), (&FRIDAY.into(), &MONDAY.into(), &"global".into()));
}

#[tokio::test]
async fn a_stored_forecast_goes_stale_in_the_cache_too() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 120).await;
    train(&world, "NASDAQ:AAPL").await;
    let fresh = world.get(AAPL).await;
    world.clock.set("2024-01-29T14:30:00Z".parse().unwrap());
    let late = world.get_with(AAPL, &[("if-none-match", fresh.header("etag"))]).await.ok();
    assert!(late["flags"].as_array().unwrap().contains(&"stale_data".into()));
    assert_eq!((&late["kind"], &late["cached"]), (&"forecast".into(), &true.into()), "it was issued in time");
    let listed = world.get("/v1/forecasts").await.ok();
    assert!(listed["items"][0]["flags"].as_array().unwrap().contains(&"stale_data".into()));
}

#[tokio::test]
async fn a_forecast_made_too_late_is_a_hindcast() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 120).await;
    train(&world, "NASDAQ:AAPL").await;
    world.clock.set("2024-02-05T12:00:00Z".parse().unwrap());
    let body = world.get(AAPL).await.ok();
    assert_eq!((&body["kind"], &body["target"]), (&"hindcast".into(), &MONDAY.into()));
    assert!(body["flags"].as_array().unwrap().contains(&"stale_data".into()));
}

#[tokio::test]
async fn a_model_ahead_of_the_archive_is_not_asked() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 120).await;
    let ticker = Ticker::parse("NASDAQ:AAPL").unwrap();
    let series = archive::series(&world.stores.db, &ticker).await.unwrap().unwrap();
    // An archive that ends before what the global model has learnt.
    let behind = World::new().await;
    let sessions = weekdays(120);
    behind.put_csv("/v1/tickers/NASDAQ/AAPL/bars", csv(&sessions[..60])).await.ok();
    register_global(&behind, &small_global(&series)).await;
    let body = behind.get(AAPL).await.ok();
    assert_eq!(body["made_by"], "baseline");
    assert_eq!(behind.get("/v1/forecasts").await.ok()["items"], serde_json::json!([]), "a stopgap is not stored");
}

#[tokio::test]
async fn a_broken_model_does_not_break_the_answer() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 120).await;
    register(
        &world,
        NewModel {
            hash: "00".to_owned(),
            ticker: Ticker::parse("NASDAQ:AAPL").unwrap(),
            parent: None,
            recipe: "lstm20-v1".to_owned(),
            seed: 1,
            as_of: date(FRIDAY),
            input_hash: String::new(),
            metrics: serde_json::json!({}),
            weights: b"not a model".to_vec(),
        },
    )
    .await;
    assert_eq!(world.get(AAPL).await.ok()["made_by"], "baseline", "the exchange has no model");
    train(&world, "NASDAQ:AAPL").await;
    let body = ask(&world.with_empty_cache(), Method::GET, AAPL, &[], Body::empty()).await.ok();
    assert_eq!(body["made_by"], "global", "the ticker's own cannot be read");
}

/// Registers a model as the finetune step does.
async fn register(world: &World, model: NewModel) {
    let engine = &world.engine;
    let run = engine.start(&[engine.manual_run(model.ticker.clone(), model.as_of, true, None)]).await.unwrap()[0].id;
    let mut message = Message { run, step: Step::Scrape, generation: 1, queue: Step::Scrape.queue(10) };
    // To its end, so that the ticker's next run does not wait for it.
    for effects in [vec![], vec![Effect::Model(model)], vec![], vec![], vec![]] {
        let completion = world.carry_out(&message, Outcome::Done("done".to_owned()), effects).await;
        message = completion.messages.into_iter().next().unwrap_or(message);
    }
}

#[tokio::test]
async fn forecasts_are_paged() {
    let world = World::new().await;
    for ticker in ["NASDAQ:A", "NASDAQ:B", "NEPSE:A"] {
        world.import(ticker, 40).await;
        train(&world, ticker).await;
        let (exchange, symbol) = ticker.split_once(':').unwrap();
        world.get(&format!("/v1/forecasts/{exchange}/{symbol}")).await.ok();
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/forecasts?limit=1{cursor}")).await.ok();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 1);
        seen.push(format!("{}:{}", items[0]["exchange"].as_str().unwrap(), items[0]["ticker"].as_str().unwrap()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["NASDAQ:A", "NASDAQ:B", "NEPSE:A"]);
    assert_eq!(world.get("/v1/forecasts?exchange=NEPSE").await.ok()["items"].as_array().unwrap().len(), 1);
}
