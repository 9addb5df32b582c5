"""Our served intervals beside GARCH(1,1) with filtered historical simulation, on the same days: a folder of prices and the CSV of
`retainai backtest` come in, for each exchange the ratio of weighted interval scores goes out. Below 1 ours are better.

GARCH (the package `arch`, zero mean, normal likelihood) is fitted anew every 25 sessions on the newest returns known, and filters every return in between.
Its quantiles are the empirical ones of its own standardised residuals, times the volatility it expects, around the reference price.
"""

import argparse
import csv
import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy
from arch import arch_model

REFIT_EVERY = 25
# As many returns as a fit looks back on (with 1,500 or 2,500 GARCH does worse on NASDAQ), and the fewest that it may have.
RETURNS, RETURNS_MIN = 1000, 120
LEVELS = (0.025, 0.1, 0.9, 0.975)


def wis(point, low95, low80, high80, high95, close):
    """Weighted interval score of the point and both intervals; the same as forecast/src/evaluate.rs has it."""

    def interval(low, high, alpha):
        return (high - low) + 2 / alpha * (max(low - close, 0) + max(close - high, 0))

    return (0.5 * abs(close - point) + 0.1 * interval(low80, high80, 0.2) + 0.025 * interval(low95, high95, 0.05)) / 2.5


class Series:
    """Closes of one ticker with the returns against each session's reference price."""

    def __init__(self, path, factors):
        rows = [row for row in csv.DictReader(path.open()) if row["close"]]
        self.sessions = [row["date"] for row in rows]
        self.closes = numpy.array([float(row["close"]) for row in rows])
        self.at = {session: index for index, session in enumerate(self.sessions)}
        # Actions count for the first session at or after their day.
        self.factors = numpy.ones(len(rows))
        for session, factor in factors:
            index = next((i for i, of in enumerate(self.sessions) if of >= session), None)
            if index:
                self.factors[index] *= factor
        self.returns = numpy.log(self.closes[1:] / (self.closes[:-1] * self.factors[1:]))


class Garch:
    """One-session-ahead quantiles of a ticker's return, from nothing later than the session before."""

    def __init__(self, returns):
        self.returns, self.fitted_at, self.parameters = 100 * returns, None, None

    def quantiles(self, known):
        """For the return that follows the first `known` ones; None while there are too few."""
        if known < RETURNS_MIN:
            return None
        model = arch_model(self.returns[max(0, known - RETURNS) : known], mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        if self.fitted_at is None or known >= self.fitted_at + REFIT_EVERY:
            fitted = model.fit(disp="off", show_warning=False)
            # A fit that did not converge leaves the earlier one in force, where there is one.
            if fitted.convergence_flag == 0 or self.parameters is None:
                self.parameters = fitted.params
            self.fitted_at = known
        filtered = model.fix(self.parameters)
        residuals = filtered.std_resid[numpy.isfinite(filtered.std_resid)]
        expected = math.sqrt(filtered.forecast(horizon=1, reindex=False).variance.to_numpy()[-1, 0])
        return numpy.quantile(residuals, LEVELS) * expected / 100


def ratio_of(rows, series):
    """(ours ÷ GARCH's score, days) over the rows of one ticker."""
    garch, ours, theirs = Garch(series.returns), [], []
    for row in rows:
        index = series.at[row["target_date"]]
        quantiles = garch.quantiles(index - 1)
        if quantiles is None:
            continue
        close, reference = series.closes[index], series.closes[index - 1] * series.factors[index]
        said = [float(row[name]) for name in ("point", "lo95", "lo80", "hi80", "hi95")]
        low95, low80, high80, high95 = reference * numpy.exp(quantiles)
        ours.append(wis(*said, close) / reference)
        theirs.append(wis(reference, low95, low80, high80, high95, close) / reference)
    return (sum(ours) / sum(theirs), len(ours)) if ours else (None, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", type=Path, required=True)
    parser.add_argument("--forecasts", type=Path, required=True)
    parser.add_argument("--tickers-max", type=int, default=12, help="of each exchange, in order of their names")
    args = parser.parse_args()
    factors = defaultdict(list)
    for path in args.prices.glob("*reference_price_factors.csv"):
        for row in csv.DictReader(path.open()):
            factors[row["ticker"]].append((row["date"], float(row["factor"])))
    rows = defaultdict(list)
    for row in csv.DictReader(args.forecasts.open()):
        if row["model"] == "served":
            rows[row["exchange"], row["ticker"]].append(row)
    found = defaultdict(dict)
    for exchange, ticker in sorted(rows):
        if len(found[exchange]) == args.tickers_max:
            continue
        # Only NEPSE publishes reference prices.
        known = factors[ticker] if exchange == "NEPSE" else []
        series = Series(args.prices / exchange / f"{ticker}.csv", known)
        ratio, days = ratio_of(rows[exchange, ticker], series)
        if ratio is not None:
            found[exchange][ticker] = {"ratio": round(ratio, 4), "days": days}
    answer = {
        exchange: {"median": median(of["ratio"] for of in tickers.values()), "tickers": tickers}
        for exchange, tickers in found.items()
        if tickers
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
