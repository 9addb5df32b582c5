//! Replays: what a run made is made again and compared; what cannot be is told, and nothing is written.

use crate::champion::{register_global, small_global};
use crate::{FRIDAY, MONDAY, World, date};
use forecast::{Issued, MarketReturns, Model, Models};
use market::{Doubts, Exchange, TargetBasis, Ticker, Witness, Word};
use serde_json::{Value, json};
use workflows::message::Message;
use workflows::plan::Step;
use workflows::stores::forecasts::How;
use workflows::stores::made_with::{Known, Made, Staged, Version};
use workflows::stores::{archive, forecasts, models::NewModel, sessions};
use workflows::{Effect, Outcome};

fn aapl() -> Ticker {
    Ticker::parse("NASDAQ:AAPL").unwrap()
}

/// A run of AAPL whose steps end well with these effects, in the chain's order; its id.
async fn ended(world: &World, effects: [Vec<Effect>; 5]) -> String {
    let engine = &world.engine;
    let run = engine.start(&[engine.manual_run(aapl(), date(FRIDAY), true, None)]).await.unwrap()[0].id;
    let mut message = Message { run, step: Step::Scrape, generation: 1, queue: Step::Scrape.queue(10) };
    for effects in effects {
        let completion = world.carry_out(&message, Outcome::Done("done".to_owned()), effects).await;
        message = completion.messages.into_iter().next().unwrap_or(message);
    }
    run.to_string()
}

async fn replayed(world: &World, run: &str) -> Value {
    world.post(&format!("/v1/runs/{run}/replay"), json!({})).await.ok()
}

/// What a run trained and forecast, with the records it leaves.
struct Trained {
    model: Model,
    made: Made,
    issued: Issued,
    forecasts: Made,
}

impl Trained {
    async fn new(world: &World) -> Self {
        world.import("NASDAQ:AAPL", 300).await;
        let (series, at) = archive::series_and_version(&world.stores.db, &aapl()).await.unwrap().unwrap();
        let global = small_global(&series);
        register_global(world, &global).await;
        let (market, seed) = (MarketReturns::default(), 7);
        let model = forecast::finetune(&global, None, &series, &market, seed).unwrap();
        let (known, version) = (Known { series: Some(at), staged: None }, version("0.0.9"));
        let made = Made::Model {
            version: version.clone(),
            known: known.clone(),
            market_hash: market.hash(),
            input_hash: forecast::input_hash(&series, &market),
            global: global.hash().to_owned(),
            parent: None,
            seed,
            model: model.hash().to_owned(),
        };
        let models = Models { global: Some(&global), own: Some(&model) };
        let now = world.engine.market_clock.now();
        let calendar = sessions::calendar(&world.stores.db, Exchange::Nasdaq, date(FRIDAY)).await.unwrap();
        let (friday, doubts, outlook) = (Some(date(FRIDAY)), Doubts::default(), calendar.outlook(date(FRIDAY)));
        let issued = forecast::issue(models, &series, &market, friday, now, &doubts, Some(&outlook)).unwrap();
        let said = &issued.predicted;
        let forecasts = Made::Forecasts {
            version,
            known,
            market_hash: market.hash(),
            input_hash: said.served.input_hash.clone(),
            session: date(FRIDAY),
            doubts,
            outlook: Some(outlook),
            global: Some(global.hash().to_owned()),
            own: Some(model.hash().to_owned()),
            forecasts: vec![forecasts::id_of(said.own.as_ref().unwrap()), forecasts::id_of(&said.served)],
        };
        Self { model, made, issued, forecasts }
    }

    /// A run that made them.
    async fn run(&self, world: &World) -> String {
        self.run_that_keeps(world, vec![Effect::Model(self.row())]).await
    }

    /// The same, with these weights in the registry.
    async fn run_that_keeps(&self, world: &World, mut trained: Vec<Effect>) -> String {
        let effect = |forecast: &market::Forecast, served| Effect::Forecast {
            forecast: Box::new(forecast.clone()),
            how: How {
                hindcast: self.issued.hindcast,
                served,
                opens_at: self.issued.opens_at,
                made_at: world.engine.ledger.now(),
            },
        };
        let said = &self.issued.predicted;
        let record = |made: &Made| Effect::MadeWith(Box::new(made.clone()));
        trained.push(record(&self.made));
        let forecast =
            vec![effect(said.own.as_ref().unwrap(), false), effect(&said.served, true), record(&self.forecasts)];
        ended(world, [vec![], trained, forecast, vec![], vec![]]).await
    }

    fn row(&self) -> NewModel {
        NewModel {
            hash: self.model.hash().to_owned(),
            ticker: aapl(),
            parent: None,
            recipe: self.model.recipe().id(),
            seed: self.model.seed(),
            as_of: self.model.as_of(),
            input_hash: String::new(),
            metrics: json!({}),
            weights: self.model.to_bytes(),
        }
    }
}

fn version(program: &str) -> Version {
    Version {
        program: program.to_owned(),
        kernel: forecast::Kernel::Fast.version(),
        recipe: Some("lstm20x3-v2".to_owned()),
    }
}

/// Step, what and verdict of each item.
fn told(replay: &Value) -> Vec<String> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let items = replay["items"].as_array().unwrap().iter();
    items.map(|i| format!("{} {} {}", text(i, "step"), text(i, "what"), text(i, "verdict"))).collect()
}

#[tokio::test]
async fn a_run_without_anything_to_replay_is_refused() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let replay = |id: &str| format!("/v1/runs/{id}/replay");
    let nobody = replay("018cffff-0000-7000-8000-000000000000");
    world.post(&nobody, json!({})).await.problem(404, "unknown_run");
    world.post(&replay("nonsense"), json!({})).await.problem(404, "not_found");
    let dead = world.dead_run("NASDAQ:AAPL", Outcome::GiveUp("gone".to_owned())).await;
    let nothing = world.post(&replay(&dead), json!({})).await.problem(409, "nothing_to_replay");
    assert_eq!(nothing["state"], "failed");
    let open = world.post("/v1/runs", json!({ "exchange": "NASDAQ", "ticker": "AAPL" })).await.ok();
    let open = world.post(&replay(open["id"].as_str().unwrap()), json!({})).await.problem(409, "run_open");
    assert_eq!(open["state"], "queued");
    assert_eq!(world.get(&replay(&dead)).await.status, 405);
}

#[tokio::test]
async fn what_was_made_before_records_were_kept_says_so() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let run = ended(&world, [vec![], vec![], vec![], vec![], vec![]]).await;
    let replay = replayed(&world, &run).await;
    assert_eq!(told(&replay), ["finetune model not_replayable", "cache forecast not_replayable"]);
    assert_eq!(replay["verdict"], "not_replayable");
    for item in replay["items"].as_array().unwrap() {
        assert!(item["why"].as_str().unwrap().contains("made before"), "{item}");
        assert!(item.get("version_then").is_none() && item["version_now"]["kernel"].is_number());
    }
}

#[tokio::test]
async fn a_model_and_its_forecasts_come_out_the_same_whatever_was_revised() {
    let world = World::new().await;
    let trained = Trained::new(&world).await;
    let run = trained.run(&world).await;
    let revised = format!("date,close\n{FRIDAY},50.5\n2023-12-01,51\n2024-01-29,52\n");
    world.put_csv("/v1/tickers/NASDAQ/AAPL/bars", revised).await.ok();
    world.put_csv("/v1/exchanges/NASDAQ/factors", "ticker,date,factor\nAAPL,2024-01-10,0.5\n").await.ok();
    let before = world.actions().await;
    let replay = replayed(&world, &run).await;
    let all = ["finetune inputs", "finetune model", "cache inputs", "cache forecast", "cache forecast"];
    assert_eq!(told(&replay), all.map(|item| format!("{item} same")), "{replay:#}");
    assert_eq!((&replay["verdict"], &replay["run"]), (&"same".into(), &run.as_str().into()));
    let (model, forecast) = (&replay["items"][1], &replay["items"][3]);
    assert_eq!(model["name"], trained.model.hash());
    assert_eq!((&model["version_then"]["program"], &forecast["made_by"]), (&"0.0.9".into(), &"own".into()));
    assert_eq!(model["version_now"]["recipe"], trained.model.recipe().id());
    assert_eq!(replayed(&world, &run).await, replay, "and again");
    assert_eq!(world.actions().await, before, "nothing was changed that an audit would tell");
}

#[tokio::test]
async fn what_was_said_of_its_target_since_changes_no_replay() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    let run = trained.run(&world).await;
    let path = format!("/v1/exchanges/NASDAQ/sessions/{MONDAY}");
    world.put(&path, json!({ "state": "closed", "reason": "a storm" })).await.ok();
    assert_eq!(replayed(&world, &run).await["verdict"], "same");
    // Another outlook than the recorded one is another target: the record is what is replayed.
    let Made::Forecasts { outlook: Some(outlook), .. } = &mut trained.forecasts else { unreachable!("it has one") };
    let monday = date(MONDAY);
    let closed = Word { session: monday, open: false, by: Witness::Operator, why: "a storm".to_owned() };
    outlook.words.push(closed);
    let replay = replayed(&world, &trained.run(&world).await).await;
    let fields: Vec<&str> =
        replay["items"][3]["differences"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"target") && fields.contains(&"target_basis"), "{replay:#}");
}

#[tokio::test]
async fn a_record_from_before_there_was_a_calendar_is_replayed_by_the_tickers_own_week() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    let said = &mut trained.issued.predicted;
    said.served.target_basis = TargetBasis::ObservedWeek;
    said.own.as_mut().unwrap().target_basis = TargetBasis::ObservedWeek;
    if let Made::Forecasts { outlook, .. } = &mut trained.forecasts {
        *outlook = None;
    }
    let replay = replayed(&world, &trained.run(&world).await).await;
    assert_eq!(replay["verdict"], "same", "{replay:#}");
}

#[tokio::test]
async fn what_differs_is_told_by_its_field() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    if let Made::Model { seed, .. } = &mut trained.made {
        *seed += 1;
    }
    trained.issued.predicted.served.interval80.hi += 0.0001;
    let replay = replayed(&world, &trained.run(&world).await).await;
    let verdicts =
        ["finetune inputs same", "finetune model different", "cache inputs same", "cache forecast same"].as_slice();
    assert_eq!(told(&replay), [verdicts, &["cache forecast different"]].concat());
    assert_eq!(replay["verdict"], "different");
    let found = &replay["items"][1]["differences"];
    assert_eq!((&found[0]["field"], &found[0]["then"]), (&"hash".into(), &trained.model.hash().into()));
    assert_ne!(found[0]["now"], found[0]["then"]);
    let found = replay["items"][4]["differences"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["field"]), (1, &"interval80.hi".into()), "{found:#?}");
}

#[tokio::test]
async fn other_inputs_are_told_and_nothing_is_made_of_them() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    if let Made::Model { input_hash, .. } = &mut trained.made {
        *input_hash = "00".repeat(32);
    }
    let replay = replayed(&world, &trained.run(&world).await).await;
    assert_eq!(told(&replay)[..2], ["finetune inputs different", "finetune model not_replayable"]);
    assert_eq!(replay["items"][0]["differences"][0]["field"], "input_hash");
    assert_eq!(replay["verdict"], "different");
}

#[tokio::test]
async fn what_can_be_replayed_is_although_a_parent_is_gone() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    let gone = "ab".repeat(32);
    if let Made::Model { parent, .. } = &mut trained.made {
        *parent = Some(gone.clone());
    }
    let replay = replayed(&world, &trained.run(&world).await).await;
    let model = &replay["items"][1];
    assert_eq!(model["verdict"], "not_replayable");
    let why = model["why"].as_str().unwrap();
    assert!(why.contains("parent") && why.contains(&gone) && why.contains("gone"), "{why}");
    assert_eq!(told(&replay)[2..], ["cache inputs same", "cache forecast same", "cache forecast same"]);
    assert_eq!(replay["verdict"], "same", "all that could be made again");
}

#[tokio::test]
async fn weights_that_are_gone_are_trained_again_or_named() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    let replay = replayed(&world, &trained.run_that_keeps(&world, vec![]).await).await;
    assert_eq!(told(&replay)[3..], ["cache forecast same", "cache forecast same"], "{replay:#}");
    if let Made::Model { parent, .. } = &mut trained.made {
        *parent = Some("ab".repeat(32));
    }
    let replay = replayed(&world, &trained.run_that_keeps(&world, vec![]).await).await;
    assert_eq!(told(&replay)[3..], ["cache forecast not_replayable", "cache forecast not_replayable"]);
    let why = replay["items"][3]["why"].as_str().unwrap();
    assert!(why.contains("own model") && why.contains(trained.model.hash()), "{why}");
    assert_eq!(replay["verdict"], "not_replayable", "inputs alone prove nothing");
}

#[tokio::test]
async fn a_run_whose_bars_were_never_archived_says_so() {
    let world = World::new().await;
    let mut trained = Trained::new(&world).await;
    let lost = Some(Staged { source: "yahoo".to_owned(), first: date(FRIDAY), last: date(FRIDAY) });
    for made in [&mut trained.made, &mut trained.forecasts] {
        if let Made::Model { known, .. } | Made::Forecasts { known, .. } = made {
            known.staged = lost.clone();
        }
    }
    let replay = replayed(&world, &trained.run(&world).await).await;
    assert!(told(&replay).iter().all(|item| item.ends_with("not_replayable")), "{replay:#}");
    assert!(replay["items"][0]["why"].as_str().unwrap().contains("never archived"), "{replay:#}");
    assert_eq!(replay["verdict"], "not_replayable");
}
