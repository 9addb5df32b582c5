//! The public record: one forecast beside the close that came, and sums of such rows from which skill is told. No ratio stands without the naive
//! forecast beside it.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// A row of the record. Errors and scores are shares of the reference price, so that rows of several tickers may be added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The session that it turned out to be about: the exchange's first that opened after it was issued.
    pub session: NaiveDate,
    /// The close that came.
    pub close: f64,
    /// What the close is measured against: the last close after all corporate actions, also those that nobody had announced.
    pub reference: f64,
    /// `reference` ÷ the reference price that the forecast knew; point and intervals are multiplied by it before they are scored.
    pub scale: f64,
    /// Close less point.
    pub error: f64,
    /// Close less reference price: the error of "tomorrow = today".
    pub naive_error: f64,
    /// Weighted interval score of the forecast.
    pub wis: f64,
    /// That of the baseline P-EWMA.
    pub wis_ewma: f64,
    /// That of the baseline P-EQ, where the forecast carries one.
    pub wis_eq: Option<f64>,
    /// Whether the 80 % interval held the close.
    pub in80: bool,
    /// Whether the 95 % interval held it.
    pub in95: bool,
    /// Where the close lay in the forecast's distribution, 0 to 1, read off its five quantiles.
    pub pit: f64,
    /// The direction claimed: 1 up, −1 down, 0 none.
    pub call: i64,
    /// The direction that came, against the reference price.
    pub came: i64,
}

/// Rows of the record, added up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// How many.
    pub n: i64,
    /// Squared errors of the points.
    pub squares: f64,
    /// Squared errors of the reference prices.
    pub naive_squares: f64,
    /// Weighted interval scores.
    pub wis: f64,
    /// Those of P-EWMA.
    pub wis_ewma: f64,
    /// Weighted interval scores of the rows that carry a P-EQ.
    pub wis_beside_eq: f64,
    /// Those of P-EQ.
    pub wis_eq: f64,
    /// How many 80 % intervals held their close.
    pub in80: i64,
    /// How many 95 % intervals did.
    pub in95: i64,
    /// Places of the closes in their distributions.
    pub pit: f64,
    /// Claims of a direction about closes that moved.
    pub calls: i64,
    /// How many of these came true.
    pub hits: i64,
    /// How many claimed a rise.
    pub said_up: i64,
    /// How many of these closes rose.
    pub came_up: i64,
}

impl Sums {
    /// Adds one row.
    pub fn add(&mut self, row: &Scored) {
        self.plus(&Sums::of(row));
    }

    /// Of one row.
    pub fn of(row: &Scored) -> Self {
        let called = row.call != 0 && row.came != 0;
        Sums {
            n: 1,
            squares: row.error * row.error,
            naive_squares: row.naive_error * row.naive_error,
            wis: row.wis,
            wis_ewma: row.wis_ewma,
            wis_beside_eq: row.wis_eq.map_or(0.0, |_| row.wis),
            wis_eq: row.wis_eq.unwrap_or(0.0),
            in80: i64::from(row.in80),
            in95: i64::from(row.in95),
            pit: row.pit,
            calls: i64::from(called),
            hits: i64::from(called && row.call == row.came),
            said_up: i64::from(called && row.call > 0),
            came_up: i64::from(called && row.came > 0),
        }
    }

    /// Adds others.
    pub fn plus(&mut self, more: &Sums) {
        self.n += more.n;
        self.squares += more.squares;
        self.naive_squares += more.naive_squares;
        self.wis += more.wis;
        self.wis_ewma += more.wis_ewma;
        self.wis_beside_eq += more.wis_beside_eq;
        self.wis_eq += more.wis_eq;
        self.in80 += more.in80;
        self.in95 += more.in95;
        self.pit += more.pit;
        self.calls += more.calls;
        self.hits += more.hits;
        self.said_up += more.said_up;
        self.came_up += more.came_up;
    }

    /// Root mean squared error ÷ that of "tomorrow = today"; below 1 is better.
    pub fn rmse_ratio(&self) -> f64 {
        ratio(self.squares, self.naive_squares).sqrt()
    }

    /// Mean weighted interval score ÷ that of P-EWMA; below 1 is better.
    pub fn wis_ratio(&self) -> f64 {
        ratio(self.wis, self.wis_ewma)
    }

    /// The same ÷ that of P-EQ; `None` where no row carries one.
    pub fn wis_ratio_eq(&self) -> Option<f64> {
        (self.wis_eq > 0.0).then(|| ratio(self.wis_beside_eq, self.wis_eq))
    }

    /// Share of closes inside the 80 % interval, 0 to 1.
    pub fn cov80(&self) -> f64 {
        self.share(self.in80)
    }

    /// Share of closes inside the 95 % interval, 0 to 1.
    pub fn cov95(&self) -> f64 {
        self.share(self.in95)
    }

    /// Mean place of the closes in their distributions; 0.5 when the middle is right.
    pub fn mean_pit(&self) -> f64 {
        if self.n == 0 { 0.5 } else { self.pit / self.n as f64 }
    }

    /// Hits in excess of what the same mix of claims would reach by chance on the same mix of outcomes, in percentage points (Pesaran and Timmermann
    /// 1992); `None` without claims.
    pub fn direction_excess(&self) -> Option<f64> {
        (self.calls > 0).then(|| {
            let part = |count: i64| count as f64 / self.calls as f64;
            let (said, came) = (part(self.said_up), part(self.came_up));
            100.0 * (part(self.hits) - (said * came + (1.0 - said) * (1.0 - came)))
        })
    }

    fn share(&self, count: i64) -> f64 {
        if self.n == 0 { 0.0 } else { count as f64 / self.n as f64 }
    }
}

/// Equal when both are nothing: a price that never moves is forecast perfectly by both.
fn ratio(ours: f64, theirs: f64) -> f64 {
    if ours == theirs { 1.0 } else { ours / theirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(error: f64, naive_error: f64, wis: f64, call: i64) -> Scored {
        Scored {
            session: "2024-02-26".parse().unwrap(),
            close: 100.0,
            reference: 100.0,
            scale: 1.0,
            error,
            naive_error,
            wis,
            wis_ewma: 0.01,
            wis_eq: None,
            in80: true,
            in95: true,
            pit: 0.5,
            call,
            came: if naive_error > 0.0 { 1 } else { -1 },
        }
    }

    fn sums(rows: &[Scored]) -> Sums {
        let mut sums = Sums::default();
        rows.iter().for_each(|row| sums.add(row));
        sums
    }

    #[test]
    fn ratios_are_against_the_naive_forecast() {
        let of = sums(&[row(0.01, 0.02, 0.009, 1), row(-0.01, -0.02, 0.009, -1)]);
        assert_eq!((of.rmse_ratio(), of.wis_ratio_eq()), (0.5, None));
        assert!((of.wis_ratio() - 0.9).abs() < 1e-12);
        // Two of two hits, and one of two by chance.
        assert_eq!(of.direction_excess(), Some(50.0));
        assert_eq!(sums(&[row(0.01, 0.01, 0.01, 0)]).direction_excess(), None);
        assert_eq!((Sums::default().rmse_ratio(), Sums::default().cov80()), (1.0, 0.0));
    }

    #[test]
    fn always_down_in_a_falling_market_is_no_skill() {
        let rows: Vec<Scored> = (0..100).map(|n| row(0.0, if n % 5 == 0 { 0.01 } else { -0.01 }, 0.01, -1)).collect();
        assert!(sums(&rows).direction_excess().unwrap().abs() < 1e-9, "80 of 100 hits");
    }
}
