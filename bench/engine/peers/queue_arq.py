"""arq, measured as our engine is: jobs that do nothing, chains of five whose handler enqueues the next, and the time from enqueue to start.

Prints one JSON line. Its best settings: results are not kept, 64 jobs at a time, uvloop and hiredis; it polls every 10 ms instead of every 500.
"""

import argparse
import asyncio
import json
import random
import time
from urllib.parse import urlparse

import uvloop
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func

STEPS = 5


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["noop", "chain", "pickup"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--starts", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--poll-ms", type=int, default=10)
    parser.add_argument("--warm-s", type=float, default=1.0)
    parser.add_argument("--window-s", type=float, default=5.0)
    return parser.parse_args()


class Floor:
    """What the handler sees."""

    def __init__(self, args):
        self.args = args
        self.done = 0
        self.picked_up = asyncio.Queue()

    async def step(self, ctx, run, step, sent):
        self.picked_up.put_nowait(time.perf_counter() - sent)
        if self.args.mode == "chain" and step < STEPS:
            await ctx["redis"].enqueue_job("step", run, step + 1, 0.0)
        self.done += 1


async def enqueue(pool, jobs):
    """arq has no bulk call: 64 at a time on the pool's connections."""

    async def share(numbers):
        for run in numbers:
            await pool.enqueue_job("step", run, 1, 0.0)

    await asyncio.gather(*(share(range(first, jobs, 64)) for first in range(64)))


async def rate(floor, total):
    args, at = floor.args, time.perf_counter()
    while time.perf_counter() - at < args.warm_s and floor.done < total / 5:
        await asyncio.sleep(0.002)
    before, at = floor.done, time.perf_counter()
    while time.perf_counter() - at < args.window_s and floor.done < total:
        await asyncio.sleep(0.002)
    count, seconds = floor.done - before, time.perf_counter() - at
    return {"count": count, "seconds": seconds, "per_s": count / seconds}


async def pickup(floor, pool):
    latencies = []
    for run in range(floor.args.starts):
        await pool.enqueue_job("step", run, 1, time.perf_counter())
        latencies.append(1000 * await floor.picked_up.get())
        await asyncio.sleep(random.uniform(0.005, 0.030))
    return {"latencies_ms": latencies}


async def main():
    args = arguments()
    address = urlparse(args.redis)
    settings = RedisSettings(host=address.hostname, port=address.port, max_connections=128)
    pool, floor = await create_pool(settings), Floor(args)
    if args.mode != "pickup":
        await enqueue(pool, args.jobs)
    worker = Worker(
        functions=[func(floor.step, name="step", keep_result=0, max_tries=1)],
        redis_pool=pool,
        max_jobs=args.concurrency,
        poll_delay=args.poll_ms / 1000,
        handle_signals=False,
    )
    working = asyncio.create_task(worker.async_run())
    if args.mode == "pickup":
        await asyncio.sleep(1)
        result = await pickup(floor, pool)
    else:
        result = await rate(floor, args.jobs * (STEPS if args.mode == "chain" else 1))
    print(json.dumps(result), flush=True)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


uvloop.install()
asyncio.run(main())
