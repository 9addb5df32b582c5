//! How long it took after a worker's SIGKILL until each step that it held began elsewhere: pure. In come the faults, the attempts that the
//! ledger calls lost, and the books; out come times in milliseconds, and apart from them those that something else delayed too.

use crate::books::Pages;
use crate::faults::{Fault, Server};
use crate::harm::Happened;
use std::collections::BTreeMap;
use uuid::Uuid;
use workflows::plan::Step;

/// For so long after PostgreSQL began nobody is taken back: the product's lease.
pub const LEASE_US: i64 = 20_000_000;

/// An attempt that the ledger calls lost.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Its run.
    pub run: Uuid,
    /// Which step.
    pub step: Step,
    /// Under which epoch.
    pub epoch: i64,
    /// Who held it.
    pub node: String,
    /// When it was taken back, in microseconds since 1970.
    pub at_us: i64,
}

/// The times.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Those that count, ascending.
    pub clean_ms: Vec<i64>,
    /// The others, ascending, by what else was going on.
    pub apart_ms: BTreeMap<&'static str, Vec<i64>>,
    /// Steps that never began again.
    pub never: Vec<(Uuid, Step)>,
}

/// Measures every step that a killed worker held.
pub fn measure(happened: &[Happened], lost: &[Lost], pages: &Pages) -> Recovery {
    let mut recovery = Recovery::default();
    for kill in happened.iter().filter(|one| matches!(one.fault, Fault::KillWorker(_))) {
        let held = lost.iter().filter(|lost| Some(&lost.node) == kill.node.as_ref() && lost.at_us >= kill.from_us);
        for Lost { run, step, epoch, .. } in held {
            let told = pages.steps.get(&(*run, *step)).map_or(&[][..], Vec::as_slice);
            let again = told.iter().filter(|told| told.epoch > *epoch).map(|told| told.began_us).min();
            let Some(again) = again else {
                recovery.never.push((*run, *step));
                continue;
            };
            let took_ms = (again - kill.from_us) / 1_000;
            match also(happened, kill, again) {
                None => recovery.clean_ms.push(took_ms),
                Some(why) => recovery.apart_ms.entry(why).or_default().push(took_ms),
            }
        }
    }
    recovery.clean_ms.sort_unstable();
    recovery.apart_ms.values_mut().for_each(|times| times.sort_unstable());
    recovery
}

/// What else was going on between the kill and `again` that may keep a step from being taken up; `None` when nothing was.
fn also(happened: &[Happened], kill: &Happened, again: i64) -> Option<&'static str> {
    let during = |from: i64, to: i64| from <= again && to >= kill.from_us;
    let Fault::KillWorker(killed) = kill.fault else { return None };
    happened.iter().find_map(|one| match one.fault {
        Fault::KillPostgres(_) | Fault::KillBackend(_) if during(one.from_us, one.to_us) => Some("PostgreSQL was away"),
        Fault::KillPostgres(_) | Fault::KillBackend(_) if during(one.from_us, one.to_us + LEASE_US) => {
            Some("the lease pause after a restart of PostgreSQL ran")
        }
        Fault::KillRedis(_) if during(one.from_us, one.to_us) => Some("Redis was away"),
        // The server does not hear of the death of a process behind a broken network: to it, this is a lost host.
        Fault::BreakNetwork(n, Server::Postgres, ..) if n == killed && during(one.from_us, one.to_us) => {
            Some("the network between the killed worker and PostgreSQL was broken")
        }
        _ => None,
    })
}

/// The time that this share of all times does not exceed; `None` when there are none.
pub fn percentile(ascending: &[i64], share: f64) -> Option<i64> {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand"
    )]
    let place = (ascending.len() as f64 * share).ceil() as usize;
    ascending.get(place.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Word, Work};
    use std::time::Duration;

    const SECOND: i64 = 1_000_000;

    fn kill(at: i64) -> Happened {
        Happened { fault: Fault::KillWorker(0), from_us: at, to_us: at, node: Some("w1.1".into()) }
    }

    fn measured(others: &[Happened]) -> Recovery {
        let (run, step) = (Uuid::nil(), Step::Cache);
        let mut pages = Pages::default();
        for (node, epoch, at_us) in [("w1.1", 1, 99 * SECOND), ("w2.1", 2, 101 * SECOND)] {
            pages.note(node, Word::Began(Work { run, step, epoch, at_us }));
        }
        let lost = Lost { run, step, epoch: 1, node: "w1.1".into(), at_us: 100 * SECOND + SECOND / 2 };
        let happened: Vec<Happened> = [kill(100 * SECOND)].into_iter().chain(others.iter().cloned()).collect();
        measure(&happened, &[lost], &pages)
    }

    #[test]
    fn counts_from_the_kill_to_the_next_beginning() {
        assert_eq!(measured(&[]).clean_ms, [1_000]);
    }

    #[test]
    fn what_a_restart_of_postgres_delays_is_apart_for_one_lease() {
        let time = Duration::from_secs(1);
        let at = |from: i64, to| Happened { fault: Fault::KillPostgres(time), from_us: from, to_us: to, node: None };
        let reasons = |other| measured(&[other]).apart_ms.into_keys().collect::<Vec<_>>();
        assert_eq!(reasons(at(99 * SECOND, 100 * SECOND)), ["PostgreSQL was away"]);
        assert_eq!(reasons(at(85 * SECOND, 86 * SECOND)), ["the lease pause after a restart of PostgreSQL ran"]);
        assert!(reasons(at(70 * SECOND, 71 * SECOND)).is_empty());
        assert!(reasons(at(102 * SECOND, 103 * SECOND)).is_empty());
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&times, 0.5), percentile(&times, 0.99)), (Some(50), Some(99)));
        assert_eq!((percentile(&[7], 0.5), percentile(&[7], 0.99), percentile(&[], 0.5)), (Some(7), Some(7), None));
    }
}
