//! The same inputs give the same bits: again, after a round trip through bytes, and with any number of threads.

use crate::{carry_on, create, say, series, walk};
use std::process::Command;

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let all = series("NEPSE:NABIL", &walk(400, 1, 500.0, 0.3), &[]);
    let early = all.until(crate::day(390));
    let (a, b) = (create(&early), create(&early));
    assert_eq!(a.to_bytes(), b.to_bytes());
    let (a2, b2) = (carry_on(Some(&a), &all), carry_on(Some(&b), &all));
    assert_eq!(a2.to_bytes(), b2.to_bytes());
    assert_eq!(a2.hash(), b2.hash());
    assert_eq!(serde_json::to_string(&say(&a2, &all)).unwrap(), serde_json::to_string(&say(&b2, &all)).unwrap());
}

#[test]
fn a_loaded_model_is_the_model() {
    let all = series("NEPSE:NABIL", &walk(400, 2, 500.0, 0.5), &[]);
    let early = all.until(crate::day(380));
    let fresh = create(&early);
    let loaded = forecast::Model::from_bytes(&fresh.to_bytes()).unwrap();
    assert_eq!(fresh, loaded);
    assert_eq!(say(&fresh, &all), say(&loaded, &all));
    assert_eq!(carry_on(Some(&fresh), &all).to_bytes(), carry_on(Some(&loaded), &all).to_bytes());
}

#[test]
fn another_seed_gives_another_model() {
    let all = series("NEPSE:NABIL", &walk(100, 3, 500.0, 0.0), &[]);
    let recipe = forecast::Recipe::default();
    let make = |seed| forecast::finetune(None, &all, &recipe, seed).unwrap();
    assert_ne!(make(1).hash(), make(2).hash());
}

/// Prints the hash of a model twice continued; run by the test below in processes of its own.
#[test]
fn hash_of_the_usual_model() {
    let all = series("NEPSE:NABIL", &walk(900, 4, 500.0, 0.4), &[]);
    let model = create(&all.until(crate::day(880)));
    let model = carry_on(Some(&model), &all);
    println!("hash={} point={:?}", model.hash(), say(&model, &all).interval80);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let said = |threads: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "repeat::hash_of_the_usual_model", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let at = text.find("hash=").unwrap_or_else(|| panic!("no hash in {text}"));
        text[at..].lines().next().unwrap().to_owned()
    };
    assert_eq!(said("1"), said("4"));
}
