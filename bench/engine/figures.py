"""From what the rounds saw to the figures: pure. Each is the median over the rounds; `_min` and `_max` stand beside the rates and latencies.

Ratios are taken inside a round, where both sides met the same machine, and only then is their median taken.
"""

from statistics import median

RATES = {
    "ours_pg_steps": "durable_steps_per_s",
    "ours_sqlite_steps": "durable_steps_per_s_sqlite",
    "apalis_noop": "bare_apalis_noop_per_s",
    "apalis_noop_tuned": "bare_apalis_tuned_noop_per_s",
    "apalis_chain": "bare_apalis_chain_steps_per_s",
    "apalis_chain_batch1": "bare_apalis_batch1_chain_steps_per_s",
    "apalis_chain_tuned": "bare_apalis_tuned_chain_steps_per_s",
    "bullmq_noop": "bullmq_noop_per_s",
    "bullmq_chain": "bullmq_chain_steps_per_s",
    "arq_noop": "arq_noop_per_s",
    "arq_chain": "arq_chain_steps_per_s",
}
PICKUPS = {
    "ours_pg_pickup": "pickup",
    "ours_sqlite_pickup": "sqlite_pickup",
    "apalis_pickup": "bare_apalis_pickup",
    "bullmq_pickup": "bullmq_pickup",
    "arq_pickup": "arq_pickup",
}
# Name of the figure: (numerator, denominator), both rates.
RATIOS = {
    "vs_bare_apalis": ("ours_pg_steps", "apalis_chain"),
    "vs_bare_apalis_batch1": ("ours_pg_steps", "apalis_chain_batch1"),
    "vs_bare_apalis_tuned": ("ours_pg_steps", "apalis_chain_tuned"),
    "vs_bullmq": ("ours_pg_steps", "bullmq_chain"),
    "vs_arq": ("ours_pg_steps", "arq_chain"),
    "cost_of_durability": ("apalis_noop", "ours_pg_steps"),
    "growth_1k_to_1m": ("ours_pg_pending_1000000", "ours_pg_pending_1000"),
    "growth_1k_to_100k_sqlite": ("ours_sqlite_pending_100000", "ours_sqlite_pending_1000"),
}


def figures(rounds):
    """One flat table of numbers; what was not measured is left out."""
    found = {}
    for name, figure in RATES.items():
        spread(found, figure, [rate(seen, name) for seen in rounds])
    for name, figure in PICKUPS.items():
        for percent in (50, 99):
            spread(found, f"{figure}_p{percent}_ms", [percentile(seen, name, percent) for seen in rounds], digits=2)
    for name in sorted({name for seen in rounds for name in seen if "_pending_" in name}, key=by_count):
        store, count = name.removeprefix("ours_").split("_pending_")
        figure = "steps_per_s_pending_" + short(int(count)) + ("_sqlite" if store == "sqlite" else "")
        spread(found, figure, [rate(seen, name) for seen in rounds])
    for figure, (over, under) in RATIOS.items():
        spread(found, figure, [ratio(rate(seen, over), rate(seen, under)) for seen in rounds], digits=3)
    for peer in ("bare_apalis", "bullmq", "arq"):
        theirs = next(name for name, figure in PICKUPS.items() if figure == f"{peer}_pickup")
        quicker = [ratio(percentile(seen, theirs, 50), percentile(seen, "ours_pg_pickup", 50)) for seen in rounds]
        spread(found, f"pickup_vs_{peer}", quicker, digits=3)
    for process in ("postgres", "redis", "self"):
        spent = [cpu_us(seen.get("ours_pg_steps"), process) for seen in rounds]
        spread(found, f"cpu_us_per_step_{'ours' if process == 'self' else process}", spent, bounds=False)
    return found


def spread(found, figure, values, digits=1, bounds=True):
    values = [value for value in values if value is not None]
    if not values:
        return
    found[figure] = round(median(values), digits)
    if bounds:
        found[f"{figure}_min"], found[f"{figure}_max"] = round(min(values), digits), round(max(values), digits)


def rate(seen, name):
    result = seen.get(name)
    return result and result.get("rate", result)["per_s"]


def percentile(seen, name, percent):
    result = seen.get(name)
    if result is None:
        return None
    ordered = sorted(result["latencies_ms"])
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def ratio(over, under):
    return over / under if over is not None and under else None


def cpu_us(result, process):
    if result is None or process not in result["cpu_s"] or not result["count"]:
        return None
    return 1e6 * result["cpu_s"][process] / result["count"]


def by_count(name):
    return name.split("_pending_")[0], int(name.split("_pending_")[1])


def short(count):
    if count % 1_000_000 == 0:
        return f"{count // 1_000_000}m"
    return f"{count // 1_000}k" if count % 1_000 == 0 else str(count)
