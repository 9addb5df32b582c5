"""From what the rounds saw to the figures: pure. Each time is the shortest of all rounds, because other work on the machine only ever adds.

Ratios are theirs ÷ ours, so above 1 ours is better; the peers' stronger optimiser counts. In `wis_vs_garch_fhs_…` below 1 ours is better.
"""

from statistics import median

TIMES_MS = {
    "finetune_small_ms": "ours small",
    "finetune_small_pytorch_default_adam_ms": "torch small_default",
    "finetune_small_pytorch_fused_adam_ms": "torch small_fused",
    "finetune_small_stock_candle_ms": "ours stock_small",
    "finetune_small_keras_ms": "keras small",
    "finetune_large_ms": "ours large",
    "finetune_large_pytorch_default_adam_ms": "torch large_default",
    "finetune_large_pytorch_fused_adam_ms": "torch large_fused",
    "finetune_large_stock_candle_ms": "ours stock_large",
    "finetune_product_ms": "ours product",
    "finetune_product_pytorch_default_adam_ms": "torch product_default",
    "finetune_product_pytorch_fused_adam_ms": "torch product_fused",
    "finetune_ticker_ms": "ours ticker",
}
TIMES_US = {"load_and_predict_us": "ours load_and_predict", "load_global_us": "ours load_global"}
STEPS = {"64": "step_64", "20": "step_20", "product": "step_product"}


def figures(seen, steps, garch):
    """One flat table of numbers; what was not measured is left out.

    seen: name of a measurement → all its repetitions, in seconds. steps: lines of kernel/examples/speed.rs. garch: what garch.py found.
    """
    found = {}
    for figure, name in TIMES_MS.items():
        if seen.get(name):
            found[figure] = round(1e3 * min(seen[name]), 3)
    for figure, name in TIMES_US.items():
        if seen.get(name):
            found[figure] = round(1e6 * min(seen[name]), 2)
    for size in ("small", "large", "product"):
        against_pytorch(found, size)
        for peer in ("stock_candle", "keras"):
            ratio(found, f"finetune_{size}_vs_{peer}", f"finetune_{size}_{peer}_ms", f"finetune_{size}_ms")
    if "finetune_ticker_ms" in found:
        found["tickers_per_cpu_second"] = round(1e3 / found["finetune_ticker_ms"], 1)
    if steps:
        found["fma_peak_gflops"] = max(line["peak_gflops"] for line in steps)
    for figure, name in STEPS.items():
        best = [line["gflops"] for line in steps if line["figure"] == name]
        if best:
            found[f"fraction_of_fma_peak_{figure}"] = round(max(best) / found["fma_peak_gflops"], 3)
    if seen.get("ours gradient"):
        found["gradient_error"] = float(f"{max(seen['ours gradient']):.1e}")
        found["gradient_error_median"] = float(f"{median(seen['ours gradient']):.1e}")
    for exchange, of in (garch or {}).items():
        name = f"wis_vs_garch_fhs_{exchange.lower()}"
        found[name] = round(of["median"], 4)
        found[f"{name}_tickers"] = len(of["tickers"])
        found[f"{name}_tickers_better"] = sum(ticker["ratio"] < 1 for ticker in of["tickers"].values())
    return found


def against_pytorch(found, size):
    ours = f"finetune_{size}_ms"
    pairs = [(f"finetune_{size}_vs_pytorch_{adam}", f"finetune_{size}_pytorch_{adam}_ms") for adam in ("default_adam", "fused_adam")]
    for figure, theirs in pairs:
        ratio(found, figure, theirs, ours)
    both = [found[figure] for figure, _ in pairs if figure in found]
    if both:
        found[f"finetune_{size}_vs_pytorch"] = min(both)


def ratio(found, figure, theirs, ours):
    if theirs in found and ours in found:
        found[figure] = round(found[theirs] / found[ours], 2)
