"""Measures our parsers and Python's in interleaved rounds and writes bench/results/sources.json. Called by run.sh, which sets everything up."""

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
    ("ours", "market", 20),
    ("ours", "bare", 20),
    ("python", "market_pandas", 5),
    ("python", "market_lxml", 10),
    ("ours", "history", 50),
    ("python", "history_pandas", 20),
    ("ours", "chart", 20),
    ("python", "chart_pandas", 20),
    ("ours", "quote", 20),
    ("python", "quote_pandas", 20),
    ("ours", "prices", 20),
    ("python", "prices_pandas", 20),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for required in ["profile", "bin-dir", "pages"]:
        parser.add_argument(f"--{required}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="a regular expression: only the measurements whose `SUBJECT NAME` it finds")
    parser.add_argument("--out", default=str(ROOT / "bench/results/sources.json"))
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
        return json.loads(line)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def rounds(args):
    """All repetitions of each measurement, and the rows that it read."""
    plan = [entry for entry in PLAN if re.search(args.only, " ".join(entry[:2]))]
    subjects = {
        "ours": Subject(f"{args.bin_dir}/bench-sources", "measure", args.pages),
        "python": Subject(sys.executable, str(HERE / "peers/read_pages.py"), args.pages),
    }
    seen, rows = defaultdict(list), {}
    for number in range(args.rounds):
        # Each round begins elsewhere and every other one runs backwards, so that no subject always follows the same one.
        shift = number * len(plan) // args.rounds
        order = plan[shift:] + plan[:shift]
        for subject, name, count in order if number % 2 == 0 else reversed(order):
            said = subjects[subject].measure(name, count)
            seen[name] += said["values"]
            rows[name] = said["rows"]
            best = 1e3 * min(said["values"])
            print(f"round {number + 1} of {args.rounds}: {subject} {name} {best:.3f} ms", file=sys.stderr, flush=True)
    for subject in subjects.values():
        subject.stop()
    for name, count in rows.items():
        page = name.split("_")[0]
        if name != "bare" and page in rows and count != rows[page]:
            sys.exit(f"{name} read {count} rows, and {page} {rows[page]}: they do not read the same page")
    return seen, rows


def machine(args):
    """What the figures were taken on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": os.cpu_count(),
        "cpu": model.group(1) if model else "?",
        "load_before": os.getloadavg()[0],
        "build_profile": args.profile,
        "rounds": args.rounds,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ["pandas", "lxml"]},
    }


def main():
    args = arguments()
    about = machine(args)
    seen, rows = rounds(args)
    about["load_after"] = os.getloadavg()[0]
    document = {"bench": "sources", "machine": about, "figures": figures(seen, rows)}
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
