#!/usr/bin/env python3
"""Makes nasdaq.csv.gz from the wheel of bokeh_sampledata. Needed only to repeat what is stored here; no build runs it.

    pip download --no-deps bokeh_sampledata==2026.1
    python3 make_nasdaq.py bokeh_sampledata-2026.1-py3-none-any.whl nasdaq.csv.gz
"""

import csv
import gzip
import io
import sys
import zipfile

# IBM is in the set too, but trades on another exchange.
TICKERS = ("AAPL", "FB", "GOOG", "MSFT")


def main(wheel: str, out: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("bokeh_sampledata/_data/stocks.csv.gz")
    rows = csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8")))
    kept = sorted(
        (row["Ticker"], row["Date"], row["Open"], row["High"], row["Low"], row["Close"], row["Volume"])
        for row in rows
        if row["Ticker"] in TICKERS
    )
    text = "exchange,ticker,date,open,high,low,close,volume\n"
    text += "".join("NASDAQ," + ",".join(row) + "\n" for row in kept)
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed_out:
        packed_out.write(text.encode("utf-8"))
    print(f"{out}: {len(kept)} rows")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
