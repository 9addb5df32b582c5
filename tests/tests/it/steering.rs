//! Steering from the command line beside a running `up`: what is paused waits, schedules and backfills obey, dead runs are repeated.

use crate::installation::{Installation, LIMIT};
use product_tests::eventually;
use product_tests::process::Finished;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One command to its end.
async fn retainai(installation: &Installation, command: &str) -> Finished {
    let arguments: Vec<&str> = command.split_whitespace().collect();
    installation.retainai(&arguments).output(LIMIT).await
}

/// One command that must succeed; its JSON document.
async fn asked(installation: &Installation, command: &str) -> Value {
    let done = retainai(installation, &format!("{command} --json")).await;
    assert_eq!(done.code, Some(0), "{command}: {done:#?}");
    done.json()
}

fn text(document: &Value, key: &str) -> String {
    document[key].as_str().unwrap_or_else(|| panic!("no {key}: {document:#}")).to_owned()
}

async fn scrape_queue(installation: &Installation) -> Value {
    let queues = asked(installation, "queue list").await;
    queues["items"].as_array().unwrap().iter().find(|queue| queue["step"] == "scrape").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_waits_and_goes_on() {
    pause_and_resume(Installation::embedded(&["NASDAQ:AAPL"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_waits_and_goes_on_with_postgres_and_redis() {
    let Some(installation) = Installation::on_servers(&["NASDAQ:AAPL"]).await else { return };
    pause_and_resume(installation).await;
}

async fn pause_and_resume(installation: Installation) {
    // With another source to ask, a paused one would hold up nobody.
    let installation = installation.with("RETAINAI_NASDAQ_SOURCES", "yahoo");
    let _processes = installation.start(&[]).await;
    installation.runs_ended(1).await;
    for (flag, value) in [("step", "scrape"), ("exchange", "NASDAQ"), ("ticker", "NASDAQ:AAPL"), ("source", "yahoo")] {
        let pause = asked(&installation, &format!("queue pause --{flag} {value} --reason maintenance")).await;
        assert_eq!(
            (&pause["kind"], &pause["value"], &pause["reason"]),
            (&json!(flag), &json!(value), &json!("maintenance"))
        );
        asked(&installation, &format!("queue pause --{flag} {value}")).await;
        let run = asked(&installation, "run --no-wait NASDAQ:AAPL").await["items"][0].clone();
        let path = format!("/v1/runs/{}", text(&run, "id"));
        let waits = eventually("the run to be set aside", LIMIT, || async {
            let step = installation.get(&path).await["steps"][0].clone();
            (step["state"] == "waiting").then_some(step)
        })
        .await;
        assert_eq!(waits["wait_for"], format!("pause:{flag}:{value}"));
        // It stays there: the reconciler looks ten times a second.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(installation.get(&path).await["steps"][0]["state"], "waiting");
        let queue = scrape_queue(&installation).await;
        assert_eq!((&queue["waiting"], &queue["paused"]), (&json!(1), &json!(flag == "step")), "{queue:#}");
        let shown = retainai(&installation, "queue list").await;
        assert!(shown.stdout.contains("maintenance") && shown.stdout.contains(value), "{}", shown.stdout);

        assert_eq!(asked(&installation, &format!("queue resume --{flag} {value}")).await["paused"], false);
        let resumed = Instant::now();
        eventually("the run to go on", LIMIT, || async {
            (installation.get(&path).await["steps"][0]["state"] != "waiting").then_some(())
        })
        .await;
        assert!(resumed.elapsed() < Duration::from_secs(1), "{flag}: {:?}", resumed.elapsed());
        asked(&installation, &format!("queue resume --{flag} {value}")).await;
        installation.runs_ended(2).await;
        assert_eq!(installation.get(&path).await["state"], "no_new_session");
    }
    let doors = installation.get("/v1/audit").await;
    let doors = doors["items"].as_array().unwrap();
    assert!(doors.iter().all(|entry| entry["door"] == "cli" && entry["who"] == "operator"), "{doors:#?}");
    assert_eq!(doors.iter().filter(|entry| entry["action"] == "pause").count(), 4, "{doors:#?}");

    let nothing = retainai(&installation, "queue pause --source crystal-ball --json").await;
    assert_eq!((nothing.code, &nothing.json()["code"]), (Some(1), &json!("unknown_source")), "{nothing:#?}");
    for wrong in
        ["queue pause", "queue pause --step dance", "queue pause --step scrape --exchange NASDAQ", "queue stop"]
    {
        assert_eq!(retainai(&installation, wrong).await.code, Some(2), "{wrong}");
    }
    let workers = installation.get("/v1/workers").await;
    assert!(workers["items"][0]["slots"].as_i64().unwrap() > 0, "{workers:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_obey_also_after_a_restart() {
    let installation = Installation::embedded(&["NASDAQ:AAPL"]).await;
    let mut processes = installation.start(&[]).await;
    installation.runs_ended(1).await;
    let paused = asked(&installation, "schedule pause nasdaq-daily").await;
    assert_eq!(paused["state"], "paused");
    let changed = asked(&installation, "schedule change nasdaq-daily --local-time 18:45 --overlap skip").await;
    assert_eq!((&changed["local_time"], &changed["overlap"]), (&json!("18:45"), &json!("skip")));
    for process in &mut processes {
        process.sigterm();
        assert_eq!(process.wait(LIMIT).await.code(), Some(0));
    }
    let _processes = installation.start(&[]).await;
    installation.next_session().await;
    // The other exchange's schedule has fired for its next session: the scheduler has looked.
    eventually("the other schedule", LIMIT, || async {
        let ticks = installation.get("/v1/schedules/nepse-daily/ticks").await;
        (ticks["items"].as_array()?.len() > 1).then_some(())
    })
    .await;
    let daily = asked(&installation, "schedule list").await["items"].as_array().unwrap().clone();
    let daily = daily.iter().find(|schedule| schedule["id"] == "nasdaq-daily").unwrap().clone();
    assert_eq!(
        (&daily["paused"], &daily["local_time"]),
        (&json!(true), &json!("18:45")),
        "defaults do not overwrite it"
    );
    assert_eq!(installation.get("/v1/runs").await["items"].as_array().unwrap().len(), 1, "it was silent");
    let tick = asked(&installation, "schedule trigger nasdaq-daily").await;
    assert_eq!((&tick["nth"], &tick["session"]), (&json!(1), &json!("2012-12-04")), "{tick:#}");
    installation.runs_ended(2).await;
    let resumed = retainai(&installation, "schedule resume nasdaq-daily").await;
    assert!(resumed.code == Some(0) && resumed.stdout.contains("active"), "{resumed:#?}");
    let listed = retainai(&installation, "schedule list").await;
    assert!(listed.stdout.contains("Saturday: NASDAQ does not trade on Saturdays"), "{}", listed.stdout);
    assert_eq!(retainai(&installation, "schedule pause monthly").await.code, Some(1));
    assert_eq!(retainai(&installation, "schedule change nasdaq-daily").await.code, Some(2));
    assert_eq!(retainai(&installation, "schedule change nasdaq-daily --local-time 25:00").await.code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_is_closed_and_the_next_one_is_forecast_instead() {
    let installation = Installation::embedded(&["NASDAQ:AAPL"]).await;
    let _processes = installation.start(&[]).await;
    installation.runs_ended(1).await;
    let forecast = || async {
        let shown = asked(&installation, "forecast NASDAQ:AAPL").await;
        (text(&shown, "target"), text(&shown, "target_basis"))
    };
    assert_eq!(forecast().await, ("2012-12-04".to_owned(), "observed_week".to_owned()));
    let said = asked(&installation, "sessions set NASDAQ 2012-12-04 closed --reason storm").await;
    assert_eq!((&said["items"][0]["state"], &said["items"][0]["basis"]), (&json!("closed"), &json!("operator")));
    let listed = retainai(&installation, "sessions list NASDAQ --from 2012-12-03 --to 2012-12-05").await;
    let lines: Vec<&str> = listed.stdout.lines().skip(1).collect();
    assert!(lines[0].starts_with("2012-12-03  open      observed       closes of this day"), "{}", listed.stdout);
    assert!(lines[1].contains("closed, an operator says: storm"), "{}", listed.stdout);
    assert!(lines[2].starts_with("2012-12-05  expected  observed_week"), "{}", listed.stdout);
    // What was said stands; a run says what is to be said now.
    assert_eq!(forecast().await.0, "2012-12-04");
    let run = retainai(&installation, "run NASDAQ:AAPL").await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(forecast().await, ("2012-12-05".to_owned(), "operator".to_owned()));
    installation.next_session().await;
    let skipped = eventually("the skipped tick", LIMIT, || async {
        let ticks = installation.get("/v1/schedules/nasdaq-daily/ticks").await;
        ticks["items"].as_array()?.iter().find(|tick| tick["session"] == "2012-12-04").cloned()
    })
    .await;
    let once = (&skipped["nth"], &skipped["runs"]);
    assert_eq!(once, (&json!(0), &json!(0)), "{skipped:#}");
    let cleared = asked(&installation, "sessions clear NASDAQ 2012-12-04 --to 2012-12-05").await;
    assert_eq!(cleared["items"].as_array().unwrap().len(), 2);
    assert!(cleared["items"][0]["operator"].is_null(), "{cleared:#}");
    let wrong_day = retainai(&installation, "sessions set NASDAQ 2150-01-01 open --reason why --json").await;
    assert_eq!((wrong_day.code, &wrong_day.json()["code"]), (Some(1), &json!("bad_parameter")), "{wrong_day:#?}");
    for wrong in [
        "sessions",
        "sessions list",
        "sessions list LSE",
        "sessions set NASDAQ 2012-12-04 closed",
        "sessions set NASDAQ 2012-12-04 half --reason why",
        "sessions clear NASDAQ someday",
    ] {
        assert_eq!(retainai(&installation, wrong).await.code, Some(2), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_is_counted_started_and_ended() {
    let installation = Installation::embedded(&["NASDAQ:AAPL", "NASDAQ:MSFT"]).await;
    let _processes = installation.start(&[]).await;
    installation.runs_ended(2).await;
    let range = "--from 2012-11-26 --to 2012-12-03";
    let counted = asked(&installation, &format!("backfill NASDAQ {range} --dry-run")).await;
    assert_eq!((&counted["all"], &counted["would_start"]), (&json!(12), &json!(10)), "{counted:#}");
    let one = asked(&installation, &format!("backfill NASDAQ:AAPL {range} --dry-run --policy all")).await;
    assert_eq!(one["would_start"], 6);
    assert_eq!(asked(&installation, "backfill list").await["items"], json!([]));

    asked(&installation, "queue pause --step scrape").await;
    let backfill = asked(&installation, &format!("backfill NASDAQ:AAPL,MSFT {range} --max-active 3 --offline")).await;
    let id = text(&backfill, "id");
    let open = eventually("its first runs", LIMIT, || async {
        let shown = installation.get(&format!("/v1/backfills/{id}")).await;
        (shown["open"] == 3).then_some(shown)
    })
    .await;
    assert_eq!((&open["state"], &open["started"]), (&json!("running"), &json!(3)));
    assert_eq!(asked(&installation, &format!("backfill pause {id}")).await["state"], "paused");
    asked(&installation, "queue resume --step scrape").await;
    eventually("its open runs to end", LIMIT, || async {
        (installation.get(&format!("/v1/backfills/{id}")).await["open"] == 0).then_some(())
    })
    .await;
    assert_eq!(asked(&installation, &format!("backfill show {id}")).await["started"], 3, "it is paused");
    asked(&installation, &format!("backfill resume {id}")).await;
    let done = eventually("all its runs", LIMIT, || async {
        let shown = installation.get(&format!("/v1/backfills/{id}")).await;
        (shown["state"] == "done" && shown["open"] == 0).then_some(shown)
    })
    .await;
    assert_eq!(done["started"], 10);
    let late = retainai(&installation, &format!("backfill cancel {id} --json")).await;
    assert_eq!((late.code, &late.json()["code"]), (Some(1), &json!("backfill_over")), "{late:#?}");
    let listed = retainai(&installation, "backfill list").await;
    assert!(listed.stdout.contains(&id) && listed.stdout.contains("done"), "{}", listed.stdout);
    let future = retainai(&installation, "backfill NASDAQ --from 2012-11-26 --to 2030-01-01 --json").await;
    assert_eq!((future.code, &future.json()["errors"][0]["field"]), (Some(1), &json!("to")), "{future:#?}");
    for wrong in [
        "backfill",
        "backfill NASDAQ",
        "backfill LSE --from 2012-11-26",
        "backfill NASDAQ:AAPL NEPSE:DEMOBA --from 2012-11-26",
        "backfill NASDAQ --from 2012-11-26 --max-active 1001",
        "backfill NASDAQ --from 2012-11-26 --policy some",
    ] {
        let refused = retainai(&installation, wrong).await;
        assert_eq!(refused.code, Some(2), "{wrong}: {refused:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_runs_are_listed_repeated_and_kept() {
    let installation = Installation::embedded(&["NASDAQ:AAPL", "NASDAQ:MSFT"]).await;
    installation.fault(json!({ "site": "yahoo", "kind": "layout_changed" })).await;
    installation.fault(json!({ "site": "nasdaq", "kind": "layout_changed" })).await;
    let _processes = installation.start(&[]).await;
    let failed = installation.runs_ended(2).await;
    assert!(failed.iter().all(|run| run["state"] == "failed"), "{failed:#?}");
    let dead = asked(&installation, "runs list --dead --step scrape --kind layout_changed --exchange NASDAQ").await;
    let dead = dead["items"].as_array().unwrap().clone();
    assert_eq!(dead.len(), 2, "{dead:#?}");
    let shown = retainai(&installation, "runs list --dead").await;
    assert!(shown.stdout.contains("layout_changed") && shown.stdout.contains("NASDAQ:MSFT"), "{}", shown.stdout);
    assert_eq!(asked(&installation, "runs list --dead --step cache").await["items"], json!([]));
    installation.fault(json!({ "site": "yahoo", "kind": "none" })).await;
    installation.fault(json!({ "site": "nasdaq", "kind": "none" })).await;
    let first = text(&dead[0], "run");
    assert_eq!(
        asked(&installation, &format!("runs requeue {first}")).await,
        json!({ "requeued": 1, "left_out": 0, "more": false })
    );
    let rest = retainai(&installation, "runs requeue --step scrape --kind layout_changed --exchange NASDAQ").await;
    assert_eq!((rest.code, rest.stdout.trim()), (Some(0), "1 requeued, 0 left out"), "{rest:#?}");
    assert_eq!(asked(&installation, "runs requeue").await["requeued"], 0, "nothing is dead any more");
    let runs = installation.runs_ended(4).await;
    let healed: Vec<&Value> = runs.iter().filter(|run| run["state"] == "succeeded").collect();
    assert!(healed.len() == 2 && healed.iter().all(|run| run["rerun_of"].is_string()), "{runs:#?}");
    installation.check_the_books().await;
    assert_eq!(asked(&installation, &format!("runs pin {first}")).await["pinned"], true);
    assert_eq!(asked(&installation, &format!("runs unpin {first}")).await["pinned"], false);
    for wrong in ["runs requeue not-an-id", "runs list --step scrape", "runs list --dead --state failed", "runs pin"] {
        assert_eq!(retainai(&installation, wrong).await.code, Some(2), "{wrong}");
    }
}
