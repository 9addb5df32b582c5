//! What a record, or an exchange, can be alarmed about.

use crate::MadeBy;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The kinds of alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The 80 % intervals hold too few or too many closes.
    Coverage,
    /// The intervals are worse than the baseline's: the baseline is served instead.
    IntervalsWorse,
    /// The points are worse than "tomorrow = today": the model's mean is not used.
    PointsWorse,
    /// Closes lie on one side of the forecasts.
    OffCentre,
    /// Three of five closes outside the 95 % interval.
    Misses,
    /// A forecast has no score though its session is long over.
    Unscored,
    /// The exchange was asked for sessions that were expected, and none came.
    NoSession,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [AlarmKind; 7] = [
        AlarmKind::Coverage,
        AlarmKind::IntervalsWorse,
        AlarmKind::PointsWorse,
        AlarmKind::OffCentre,
        AlarmKind::Misses,
        AlarmKind::Unscored,
        AlarmKind::NoSession,
    ];

    /// The word in tables and API.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::Coverage => "coverage",
            AlarmKind::IntervalsWorse => "intervals_worse",
            AlarmKind::PointsWorse => "points_worse",
            AlarmKind::OffCentre => "off_centre",
            AlarmKind::Misses => "misses",
            AlarmKind::Unscored => "unscored",
            AlarmKind::NoSession => "no_session",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the public record has against lines of models, by its alarms that hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Doubts {
    /// Those whose intervals were worse than the baseline's: the baseline is served in their place.
    pub intervals: Vec<MadeBy>,
    /// Those whose points were worse than the reference price: the reference price is their point.
    pub points: Vec<MadeBy>,
}

/// The text names no kind of alarm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of alarm `{0}`")]
pub struct UnknownAlarm(pub String);

impl FromStr for AlarmKind {
    type Err = UnknownAlarm;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        AlarmKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownAlarm(text.to_owned()))
    }
}
