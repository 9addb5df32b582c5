"""From what the rounds saw to the figures: pure. Each time is the shortest of all rounds, because other work on the machine only ever adds.

Ratios named `_vs_` are theirs ÷ ours, so above 1 ours is better. `market_page_times_bare_parse` is ours ÷ the HTML parser alone: below 2 is the goal.
"""

PAGES = ["market", "history", "chart", "quote", "prices"]


def figures(seen, rows):
    """One flat table of numbers; what was not measured is left out.

    seen: name of a measurement → all its repetitions, in seconds. rows: name → rows read.
    """
    found = {}
    best = {name: min(values) for name, values in seen.items() if values}
    for page in PAGES:
        if page in best:
            found[f"{page}_page_ms"] = round(1e3 * best[page], 3)
            found[f"{page}_rows"] = rows[page]
            found[f"{page}_rows_per_s"] = round(rows[page] / best[page])
    if "bare" in best:
        found["market_bare_parse_ms"] = round(1e3 * best["bare"], 3)
    if {"market", "bare"} <= best.keys():
        found["market_page_times_bare_parse"] = round(best["market"] / best["bare"], 3)
    for name in sorted(best):
        page, _, peer = name.partition("_")
        if peer and page in best:
            found[f"{page}_{peer}_rows_per_s"] = round(rows[name] / best[name])
            found[f"{page}_page_vs_{peer}"] = round(best[name] / best[page], 2)
    return found
