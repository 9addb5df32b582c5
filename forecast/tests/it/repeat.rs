//! The same inputs give the same bits: again, after a round trip through bytes, from several threads, and in another process.

use crate::{carry_on, global, say, series, walk};
use forecast::{Global, Model};
use market::Series;
use std::process::Command;

fn all() -> Series {
    series("NEPSE:NABIL", &walk(600, 4, 500.0, 0.4), &[])
}

/// A model twice continued, what it says, and the global model under it; as text.
fn usual() -> String {
    let all = all();
    let global = global(&[&all.until(crate::day(560))]);
    let model = carry_on(&global, None, &all.until(crate::day(580)));
    let model = carry_on(&global, Some(&model), &all);
    let forecast = say(&global, &model, &all);
    format!("{} {} {}", global.hash(), model.hash(), serde_json::to_string(&forecast).unwrap())
}

#[test]
fn the_same_inputs_give_the_same_bytes_on_any_thread() {
    let here = usual();
    let there: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(usual)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(there.iter().all(|one| *one == here));
}

/// Prints what the test below compares; run by it in processes of its own.
#[test]
fn the_usual_model_in_words() {
    println!("usual={}", usual());
}

#[test]
fn another_process_says_the_same() {
    let said = || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "repeat::the_usual_model_in_words", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let at = text.find("usual=").unwrap_or_else(|| panic!("nothing in {text}"));
        text[at..].lines().next().unwrap().to_owned()
    };
    assert_eq!(said(), format!("usual={}", usual()));
}

#[test]
fn a_loaded_model_is_the_model() {
    let all = all();
    let early = all.until(crate::day(580));
    let fresh_global = global(&[&early]);
    let loaded_global = Global::from_bytes(&fresh_global.to_bytes()).unwrap();
    assert_eq!(fresh_global, loaded_global);
    let fresh = carry_on(&fresh_global, None, &early);
    let loaded = Model::from_bytes(&fresh.to_bytes()).unwrap();
    assert_eq!(fresh, loaded);
    assert_eq!(say(&fresh_global, &fresh, &all), say(&loaded_global, &loaded, &all));
    let next = carry_on(&fresh_global, Some(&fresh), &all);
    assert_eq!(next.to_bytes(), carry_on(&loaded_global, Some(&loaded), &all).to_bytes());
}

#[test]
fn another_seed_gives_another_model() {
    let all = all();
    let global = global(&[&all]);
    let make = |seed| {
        let market = forecast::MarketReturns::default();
        forecast::finetune(&global, None, &all, &market, seed).unwrap()
    };
    assert_ne!(make(1).hash(), make(2).hash());
}
