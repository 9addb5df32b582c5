"""Measures our training and its peers in interleaved rounds and writes bench/results/forecast.json. Called by run.sh, which sets everything up."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

from figures import figures

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Subject, measurement, repetitions per round.
PLAN = [
    ("ours", "small", 20),
    ("torch", "small_default", 10),
    ("torch", "small_fused", 10),
    ("ours", "stock_small", 5),
    ("keras", "small", 1),
    ("ours", "large", 4),
    ("torch", "large_default", 3),
    ("torch", "large_fused", 3),
    ("ours", "stock_large", 2),
    ("ours", "product", 10),
    ("torch", "product_default", 5),
    ("torch", "product_fused", 5),
    ("ours", "ticker", 10),
    ("ours", "load_and_predict", 10),
    ("ours", "load_global", 5),
    ("steps", "step", 1),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for required in ["profile", "bin-dir", "work-dir"]:
        parser.add_argument(f"--{required}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keras", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a regular expression: only the measurements whose `SUBJECT NAME` it finds")
    parser.add_argument("--prices", type=Path, help="folder of prices for the comparison with GARCH")
    parser.add_argument("--no-garch", action="store_true", help="leave that comparison out")
    parser.add_argument("--sessions", type=int, default=250, help="the last so many sessions of each ticker in it")
    parser.add_argument("--garch-tickers", type=int, default=12, help="at most so many tickers of each exchange in it")
    parser.add_argument("--out", default=str(ROOT / "bench/results/forecast.json"))
    return parser.parse_args()


class Subject:
    """A program that is asked for one measurement at a time, so that start-up counts for nothing and rounds can be short."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, name, count):
        print(name, count, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended at {name}")
        return json.loads(line)["values"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def trainings(args):
    """All repetitions of each measurement, and the lines about the kernel's steps."""
    plan = [entry for entry in PLAN if re.search(args.only, " ".join(entry[:2])) and (entry[0] != "keras" or args.keras)]
    peers = {"torch": "peers/finetune_torch.py", "keras": "peers/finetune_keras.py"}
    subjects = {"ours": Subject(f"{args.bin_dir}/bench-forecast")}
    for name in sorted({entry[0] for entry in plan} & set(peers)):
        subjects[name] = Subject(sys.executable, str(HERE / peers[name]))
    seen, steps = defaultdict(list), []
    for number in range(args.rounds):
        # Each round begins elsewhere and every other one runs backwards, so that no subject always follows the same one.
        shift = number * len(plan) // args.rounds
        order = plan[shift:] + plan[:shift]
        for subject, name, count in order if number % 2 == 0 else reversed(order):
            print(f"round {number + 1} of {args.rounds}: {subject} {name}", end=" ", file=sys.stderr, flush=True)
            if subject == "steps":
                said = subprocess.run([f"{args.bin_dir}/examples/speed", name], check=True, capture_output=True, text=True)
                steps += [json.loads(line) for line in said.stdout.splitlines()]
                print(file=sys.stderr)
                continue
            values = subjects[subject].measure(name, count)
            seen[f"{subject} {name}"] += values
            print(f"{1e3 * min(values):.3f} ms", file=sys.stderr, flush=True)
    if re.search(args.only, "ours gradient"):
        seen["ours gradient"] = subjects["ours"].measure("gradient", 1)
    for subject in subjects.values():
        subject.stop()
    return seen, steps


def beside_garch(args):
    """What garch.py finds over the forecasts of a backtest."""
    forecasts = Path(args.work_dir) / "forecasts.csv"
    backtest = [f"{args.bin_dir}/retainai", "backtest", "--data", str(args.prices), "--sessions", str(args.sessions), "--csv", str(forecasts)]
    subprocess.run(backtest, check=True, stdout=sys.stderr)
    garch = [sys.executable, str(HERE / "garch.py"), "--prices", str(args.prices), "--forecasts", str(forecasts)]
    said = subprocess.run([*garch, "--tickers-max", str(args.garch_tickers)], check=True, stdout=subprocess.PIPE, text=True)
    print(said.stdout, file=sys.stderr, end="")
    return json.loads(said.stdout)


def machine(args):
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()

    def of(key):
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "?")

    packages = ["torch", "arch", *(["tensorflow-cpu", "keras"] if args.keras else [])]
    return {
        "cores": os.cpu_count(),
        "cpu": of("model name"),
        "cpu_family_and_model": f"{of('cpu family')}/{of('model	')}",
        "avx512": "avx512f" in of("flags").split(),
        "load_before": os.getloadavg()[0],
        "build_profile": args.profile,
        "rounds": args.rounds,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def main():
    args = arguments()
    about = machine(args)
    seen, steps = trainings(args)
    garch = None
    if args.prices and not args.no_garch:
        garch = beside_garch(args)
        about["garch_prices"] = "bundled" if args.prices.is_relative_to(args.work_dir) else "given"
    about["load_after"] = os.getloadavg()[0]
    document = {"bench": "forecast", "machine": about, "figures": figures(seen, steps, garch)}
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
