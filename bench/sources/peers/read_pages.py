"""Python's side: lines `NAME COUNT` come in, a JSON line with the processor time of each repetition and the rows read goes out.

`market_pandas` is what most people write: pandas.read_html over lxml. `market_lxml` is a reader by hand, columns by their titles, numbers checked.
The pages of JSON go through the json of the standard library into a pandas table with dates and numbers.
"""

import datetime
import io
import json
import sys
import time
from pathlib import Path

import lxml.html
import pandas

FOLDER = Path(sys.argv[1])
WANTED = ["Open", "High", "Low", "Close", "LTP", "Prev. Close", "Vol"]


def number(text):
    text = text.replace(",", "").strip()
    return None if text in ("", "-") else float(text)


def market_pandas(text):
    table = pandas.read_html(io.StringIO(text), attrs={"id": "headFixed"}, flavor="lxml", thousands=",")[0]
    return len(table[["Symbol", *WANTED]].dropna(subset=["Close"]))


def market_lxml(text):
    page = lxml.html.document_fromstring(text)
    day = datetime.date.fromisoformat(page.xpath("//span[@class='text-org']")[0].text_content())
    table = page.get_element_by_id("headFixed")
    titles = [cell.text_content().strip() for cell in table.xpath("./thead/tr/th")]
    places, symbol_at = [titles.index(title) for title in WANTED], titles.index("Symbol")
    rows = {}
    for row in table.xpath("./tbody/tr"):
        cells = [cell.text_content().strip() for cell in row]
        if len(cells) != len(titles):
            raise ValueError("another width")
        rows[cells[symbol_at]] = (day, *(number(cells[at]) for at in places))
    return len(rows)


def history_pandas(text):
    table = pandas.DataFrame(json.loads(text)["data"])
    table["published_date"] = pandas.to_datetime(table["published_date"])
    for name in ["open", "high", "low", "close", "traded_quantity"]:
        table[name] = pandas.to_numeric(table[name].str.replace(",", ""))
    return len(table)


def chart_pandas(text):
    result = json.loads(text)["chart"]["result"][0]
    table = pandas.DataFrame(result["indicators"]["quote"][0])
    table.index = pandas.to_datetime(result["timestamp"], unit="s", utc=True).tz_convert(result["meta"]["exchangeTimezoneName"]).date
    return len(table.dropna(subset=["close"]))


def quote_pandas(text):
    table = pandas.DataFrame(json.loads(text)["data"]["tradesTable"]["rows"])
    table["date"] = pandas.to_datetime(table["date"], format="%m/%d/%Y")
    for name in ["close", "open", "high", "low", "volume"]:
        table[name] = pandas.to_numeric(table[name].str.replace("$", "", regex=False).str.replace(",", ""))
    return len(table)


def prices_pandas(text):
    table = pandas.DataFrame(json.loads(text))
    table["date"] = pandas.to_datetime(table["date"], format="ISO8601")
    return len(table)


READERS = {
    "market_pandas": market_pandas,
    "market_lxml": market_lxml,
    "history_pandas": history_pandas,
    "chart_pandas": chart_pandas,
    "quote_pandas": quote_pandas,
    "prices_pandas": prices_pandas,
}

for line in sys.stdin:
    name, count = line.split()
    reader, text = READERS[name], (FOLDER / name.split("_")[0]).read_text()
    rows = reader(text)
    values = []
    for _ in range(int(count)):
        start = time.process_time()
        reader(text)
        values.append(time.process_time() - start)
    print(json.dumps({"name": name, "values": values, "rows": rows}), flush=True)
