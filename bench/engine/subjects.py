"""What is measured, and how each is started: a function a subject, which runs a program and answers with the JSON line that it printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

# No program may take longer, filling a million rows included.
LIMIT_S = 400


class Subjects:
    """Knows the servers, and leaves each subject an empty one."""

    def __init__(self, args):
        self.args = args
        self.files = Path(args.work_dir) / "embedded"
        self.files.mkdir(exist_ok=True)
        # A rewrite of the log at a moment of Redis' choosing would land on one subject and not on the others.
        self.redis("config", "set", "auto-aof-rewrite-percentage", "0")

    def redis(self, *command):
        port = self.args.redis.rsplit(":", 1)[1]
        answer = subprocess.run(["redis-cli", "-p", port, *command], check=True, capture_output=True, text=True)
        return answer.stdout.strip()

    def sql(self, *statements):
        command = [self.args.psql, "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.args.postgres]
        for statement in statements:
            command += ["-c", statement]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        return answer.stdout.strip()

    def program(self, command):
        self.redis("flushall")
        child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        try:
            out, _ = child.communicate(timeout=LIMIT_S)
        except BaseException:
            child.kill()
            child.wait()
            raise
        if child.returncode != 0:
            sys.exit(f"{command[0]} ended with status {child.returncode}")
        return json.loads(out.strip().splitlines()[-1])

    # Ours. `fresh` makes an empty database first; the pending runs keep theirs from round to round.

    def ours_postgres(self, *mode, database="measured", fresh=True):
        if fresh or not self.sql(f"select 1 from pg_database where datname = '{database}'"):
            self.sql(f"drop database if exists {database} with (force)", f"create database {database}")
        url = self.args.postgres.rsplit("/", 1)[0] + f"/{database}"
        return self.ours(url, "--redis", self.args.redis, *mode)

    def ours_sqlite(self, *mode, database="measured", fresh=True):
        file = self.files / f"{database}.db"
        if fresh:
            for leftover in self.files.glob(f"{database}.db*"):
                leftover.unlink()
        return self.ours(file, *mode)

    def ours(self, database, *rest):
        slots = ["--slots", self.args.slots, "--connections", 16]
        return self.program([f"{self.args.bin_dir}/ours", "--database", database, *slots, *rest])

    # Peers.

    def bare_apalis(self, *mode):
        return self.program([f"{self.args.bin_dir}/bare-apalis", "--redis", self.args.redis, *mode])

    def bullmq(self, *mode):
        return self.program(["node", f"{self.args.peers}/bullmq.mjs", "--redis", self.args.redis, *mode])

    def arq(self, *mode):
        return self.program([self.args.python, f"{self.args.peers}/queue_arq.py", "--redis", self.args.redis, *mode])

    def watch(self):
        return ["--watch", f"postgres={self.args.postgres_pid}", "--watch", f"redis={self.args.redis_pid}"]


def machine(subjects):
    """What the figures were taken on."""
    args = subjects.args
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory_kb = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))

    def version(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(memory_kb / 2**20, 1),
        "load_before": os.getloadavg()[0],
        "fdatasync_us": round(fdatasync_us(subjects.files), 1),
        "build_profile": args.profile,
        "postgres": subjects.sql("show server_version").split()[0],
        "redis": subjects.redis("info", "server").split("redis_version:")[1].split()[0],
        "node": version("node", "--version"),
        "python": version(args.python, "--version").split()[1],
    }


def fdatasync_us(folder):
    """How long this disk takes to keep 8 KiB for good: what every commit waits for."""
    import time

    file = os.open(folder / "fdatasync", os.O_WRONLY | os.O_CREAT)
    took = []
    for _ in range(200):
        os.pwrite(file, b"x" * 8192, 0)
        began = time.perf_counter()
        os.fdatasync(file)
        took.append(time.perf_counter() - began)
    os.close(file)
    return sorted(took)[100] * 1e6
