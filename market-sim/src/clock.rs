//! The virtual clock: it stands still until someone moves it, session by session, and survives a restart in a small file.

use crate::world::World;
use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use market::Exchange;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

/// What `GET /sim/clock` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockView {
    /// The virtual time.
    pub now: DateTime<Utc>,
    /// Whether the data ends here: the clock will not move on.
    pub ended: bool,
    /// Where one more session would take it.
    pub next: Option<DateTime<Utc>>,
    /// Where it stood when it was started for the first time.
    pub started_at: DateTime<Utc>,
    /// The newest session of NASDAQ whose hours are over.
    pub nasdaq_session: Option<NaiveDate>,
    /// The newest session of NEPSE whose hours are over.
    pub nepse_session: Option<NaiveDate>,
}

/// How `POST /sim/clock` moves it. Exactly one of the three.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// `"session"`: to the evening of the next day on which an exchange is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance: Option<String>,
    /// To this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DateTime<Utc>>,
    /// On by so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance_s: Option<i64>,
}

/// What the state file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    now: DateTime<Utc>,
    started_at: DateTime<Utc>,
    seed: u64,
}

/// The clock with the days it knows.
#[derive(Debug)]
pub struct Clock {
    state: State,
    file: Option<PathBuf>,
    days: BTreeSet<NaiveDate>,
}

/// When a session day is over everywhere: both closes are final and both exchanges' evening schedules have passed.
pub fn evening(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::from_hms_opt(23, 30, 0).expect("a valid time")).and_utc()
}

impl Clock {
    /// A clock at `start`, or where the state file says that an earlier one stood.
    pub fn open(world: &World, start: DateTime<Utc>, seed: u64, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let days: BTreeSet<NaiveDate> =
            Exchange::ALL.iter().flat_map(|exchange| world.sessions(*exchange)).copied().collect();
        let stored = match &file {
            Some(path) => read(path)?,
            None => None,
        };
        let state = match stored {
            Some(state) if state.seed != seed => bail!(
                "the state file {} belongs to seed {}, not {seed}: start with --seed {} or remove the file",
                file.unwrap_or_default().display(),
                state.seed,
                state.seed
            ),
            Some(state) => state,
            None => State { now: start, started_at: start, seed },
        };
        let mut clock = Self { state, file, days };
        let now = clock.state.now;
        clock.put(now)?;
        Ok(clock)
    }

    /// The virtual time.
    pub fn now(&self) -> DateTime<Utc> {
        self.state.now
    }

    /// Everything there is to say about it.
    pub fn view(&self, world: &World) -> ClockView {
        let now = self.state.now;
        let next = self.next();
        ClockView {
            now,
            ended: next.is_none(),
            next,
            started_at: self.state.started_at,
            nasdaq_session: world.last_closed_session(Exchange::Nasdaq, now),
            nepse_session: world.last_closed_session(Exchange::Nepse, now),
        }
    }

    /// Moves it as asked. Past the end of the data it stays at the end.
    pub fn apply(&mut self, order: &Move) -> anyhow::Result<()> {
        let to = match (order.advance.as_deref(), order.set, order.advance_s) {
            (Some("session"), None, None) => self.next().unwrap_or(self.state.now),
            (Some(other), None, None) => bail!("`{other}` is no way to advance: use \"session\""),
            (None, Some(to), None) => to,
            (None, None, Some(seconds)) => TimeDelta::try_seconds(seconds)
                .and_then(|by| self.state.now.checked_add_signed(by))
                .context("so many seconds lead out of time")?,
            _ => bail!("give one of {{\"advance\":\"session\"}}, {{\"set\":\"RFC 3339\"}}, {{\"advance_s\":N}}"),
        };
        self.put(to)
    }

    fn next(&self) -> Option<DateTime<Utc>> {
        let today = self.state.now.date_naive();
        self.days.range(today..).map(|day| evening(*day)).find(|moment| *moment > self.state.now)
    }

    fn put(&mut self, to: DateTime<Utc>) -> anyhow::Result<()> {
        let (Some(first), Some(last)) = (self.days.first(), self.days.last()) else {
            bail!("there are no sessions");
        };
        if to.date_naive() < *first {
            bail!("{to} is before the first session, {first}");
        }
        let state = State { now: to.min(evening(*last)), ..self.state.clone() };
        if let Some(path) = &self.file {
            write(path, &state).with_context(|| format!("writing the state file {}", path.display()))?;
        }
        self.state = state;
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Option<State>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("reading the state file {}", path.display())),
    };
    let state = serde_json::from_str(&text)
        .with_context(|| format!("the state file {} is damaged: remove it to start afresh", path.display()))?;
    Ok(Some(state))
}

/// Beside it, then over it: whoever pulls the plug finds the old state or the new one, never half of one.
fn write(path: &Path, state: &State) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn session() -> Move {
        Move { advance: Some("session".to_owned()), ..Move::default() }
    }

    #[test]
    fn it_moves_from_session_day_to_session_day_and_stops_at_the_end() {
        let world = World::new(7).unwrap();
        let mut clock = Clock::open(&world, at("2012-11-30T23:30:00Z"), 7, None).unwrap();
        clock.apply(&session()).unwrap();
        assert_eq!(clock.now(), at("2012-12-02T23:30:00Z"), "Sunday: NEPSE is open");
        clock.apply(&Move { set: Some(at("2013-03-01T10:00:00Z")), ..Move::default() }).unwrap();
        clock.apply(&session()).unwrap();
        let view = clock.view(&world);
        assert_eq!((view.now, view.ended, view.next), (at("2013-03-01T23:30:00Z"), true, None));
        clock.apply(&session()).unwrap();
        clock.apply(&Move { advance_s: Some(1_000_000), ..Move::default() }).unwrap();
        assert_eq!(clock.now(), view.now);
    }

    #[test]
    fn unclear_orders_are_refused() {
        let world = World::new(7).unwrap();
        let mut clock = Clock::open(&world, at("2012-11-30T23:30:00Z"), 7, None).unwrap();
        assert!(clock.apply(&Move::default()).is_err());
        assert!(clock.apply(&Move { advance: Some("week".into()), ..Move::default() }).is_err());
        assert!(clock.apply(&Move { advance_s: Some(i64::MIN), ..Move::default() }).is_err());
        assert!(clock.apply(&Move { set: Some(at("1999-01-01T00:00:00Z")), ..Move::default() }).is_err());
        assert!(clock.apply(&Move { advance_s: Some(1), ..session() }).is_err());
    }

    #[test]
    fn it_goes_on_where_it_stood() {
        let world = World::new(7).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join("new/market-sim.json"));
        let start = at("2012-11-30T23:30:00Z");
        Clock::open(&world, start, 7, file.clone()).unwrap().apply(&session()).unwrap();
        let again = Clock::open(&world, at("2010-01-01T00:00:00Z"), 7, file.clone()).unwrap();
        assert_eq!((again.now(), again.view(&world).started_at), (at("2012-12-02T23:30:00Z"), start));
        let other_seed = Clock::open(&world, start, 8, file).unwrap_err().to_string();
        assert!(other_seed.contains("--seed 7"), "{other_seed}");
    }
}
