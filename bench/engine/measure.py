"""Measures our engine and its peers in interleaved rounds and writes bench/results/engine.json. Called by run.sh, which sets everything up."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from figures import figures
from subjects import Subjects, machine

ROOT = Path(__file__).resolve().parents[2]
# The test that fires the schedules of both exchanges over ten simulated years. It prints `schedule_10y_s=SECONDS`.
SCHEDULE_TEST = "ten_years_of_both_exchanges_schedules"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for required in ["profile", "bin-dir", "python", "peers", "postgres", "psql", "postgres-pid", "redis", "redis-pid", "work-dir"]:
        parser.add_argument(f"--{required}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=5.0, help="seconds of each rate")
    parser.add_argument("--starts", type=int, default=300, help="starts on an idle system, per subject and round")
    parser.add_argument("--runs", type=int, default=6_000, help="runs (or chains) started beforehand")
    parser.add_argument("--slots", type=int, default=8, help="steps of one kind that our engine carries out at a time")
    parser.add_argument("--pending", default="1000,10000,100000,1000000", help="pending runs on PostgreSQL")
    parser.add_argument("--pending-sqlite", default="1000,10000,100000", help="pending runs on SQLite")
    parser.add_argument("--only", default="", help="a regular expression: only the measurements whose name it finds")
    parser.add_argument("--out", default=str(ROOT / "bench/results/engine.json"))
    return parser.parse_args()


def measurements(args, of):
    """Name and call of each measurement of a round."""
    window = ["--window-s", args.window_s]
    steps = ["steps", "--runs", args.runs, *window]
    starts = ["pickup", "--starts", args.starts]
    jobs = ["--jobs", 4 * args.runs, *window]
    chains = ["chain", "--jobs", args.runs, *window]
    tuned = ["--batch", 64, "--ack", "end"]
    plan = {
        "ours_pg_steps": lambda: of.ours_postgres(*steps, *of.watch()),
        "apalis_noop": lambda: of.bare_apalis("noop", "--batch", 10, *jobs),
        "bullmq_noop": lambda: of.bullmq("noop", *jobs),
        "arq_noop": lambda: of.arq("noop", *jobs),
        "ours_sqlite_steps": lambda: of.ours_sqlite(*steps),
        "apalis_chain": lambda: of.bare_apalis(*chains, "--batch", 10),
        "bullmq_chain": lambda: of.bullmq(*chains),
        "arq_chain": lambda: of.arq(*chains),
        "apalis_chain_batch1": lambda: of.bare_apalis(*chains, "--batch", 1),
        "apalis_chain_tuned": lambda: of.bare_apalis(*chains, *tuned),
        "apalis_noop_tuned": lambda: of.bare_apalis("noop", *tuned, *jobs),
        "ours_pg_pickup": lambda: of.ours_postgres(*starts),
        "apalis_pickup": lambda: of.bare_apalis(*starts, "--batch", 10),
        "bullmq_pickup": lambda: of.bullmq(*starts),
        "arq_pickup": lambda: of.arq(*starts),
        "ours_sqlite_pickup": lambda: of.ours_sqlite(*starts),
    }
    for count in numbers(args.pending):
        plan[f"ours_pg_pending_{count}"] = lambda n=count: of.ours_postgres("pending", "--runs", n, *window, database=f"pending_{n}", fresh=False)
    for count in numbers(args.pending_sqlite):
        plan[f"ours_sqlite_pending_{count}"] = lambda n=count: of.ours_sqlite("pending", "--runs", n, *window, database=f"pending_{n}", fresh=False)
    return {name: call for name, call in plan.items() if re.search(args.only, name)}


def numbers(text):
    return [int(number) for number in text.split(",") if number]


def schedule_s(args):
    """Seconds for ten simulated years of schedules, or None while there is no such test."""
    sources = [*ROOT.glob("workflows/**/*.rs"), *ROOT.glob("tests/**/*.rs")]
    if not any(SCHEDULE_TEST in path.read_text() for path in sources):
        return None
    cargo = ["cargo", "test", "--profile", args.profile, "-p", "workflows", SCHEDULE_TEST]
    subprocess.run([*cargo, "--no-run"], cwd=ROOT, check=True, stdout=sys.stderr)
    began = time.perf_counter()
    said = subprocess.run([*cargo, "--", "--nocapture"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = re.search(r"schedule_10y_s=([0-9.]+)", said.stdout + said.stderr)
    return float(found.group(1)) if found else time.perf_counter() - began


def main():
    args = arguments()
    of = Subjects(args)
    about = machine(of)
    plan = list(measurements(args, of).items())
    rounds = []
    for number in range(args.rounds):
        seen = {}
        # Each round begins elsewhere and every other one runs backwards, so that no subject always follows the same one.
        shift = number * len(plan) // args.rounds
        order = plan[shift:] + plan[:shift]
        for name, call in order if number % 2 == 0 else reversed(order):
            print(f"round {number + 1} of {args.rounds}: {name}", end=" ", file=sys.stderr, flush=True)
            seen[name] = call()
            print(summary(seen[name]), file=sys.stderr, flush=True)
        rounds.append(seen)
    about["load_after"] = os.getloadavg()[0]
    result = figures(rounds)
    ten_years = schedule_s(args) if not args.only else None
    if ten_years is not None:
        result["schedule_10y_s"] = round(ten_years, 2)
    document = {"bench": "engine", "machine": about, "figures": result}
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


def summary(result):
    rate = result.get("rate", result)
    if "per_s" in rate:
        return f"{rate['per_s']:.0f}/s"
    ordered = sorted(result["latencies_ms"])
    return f"p50 {ordered[len(ordered) // 2]:.2f} ms"


if __name__ == "__main__":
    main()
