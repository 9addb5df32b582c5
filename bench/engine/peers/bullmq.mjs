// BullMQ, measured as our engine is: jobs that do nothing, chains of five whose handler adds the next, and the time from add to start.
// Prints one JSON line. Its best settings: finished jobs are removed, jobs are added in bulk, 64 at a time.

import { parseArgs } from 'node:util';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';

const { values: args, positionals: [mode] } = parseArgs({
  allowPositionals: true,
  options: {
    redis: { type: 'string' },
    jobs: { type: 'string', default: '20000' },
    starts: { type: 'string', default: '300' },
    concurrency: { type: 'string', default: '64' },
    'warm-s': { type: 'string', default: '1' },
    'window-s': { type: 'string', default: '5' },
  },
});
const STEPS = 5;
const jobs = Number(args.jobs);
const address = new URL(args.redis);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const queue = new Queue('measured', {
  connection,
  defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
});

let done = 0;
let pickedUp = () => {};

async function handle(job) {
  pickedUp(performance.now() - job.data.sent);
  if (mode === 'chain' && job.data.step < STEPS) {
    await queue.add('step', { ...job.data, step: job.data.step + 1 });
  }
  done += 1;
}

async function rate(total) {
  const seconds = (from) => (performance.now() - from) / 1000;
  let at = performance.now();
  while (seconds(at) < Number(args['warm-s']) && done < total / 5) await sleep(2);
  const before = done;
  at = performance.now();
  while (seconds(at) < Number(args['window-s']) && done < total) await sleep(2);
  const [count, took] = [done - before, seconds(at)];
  return { count, seconds: took, per_s: count / took };
}

async function pickup(starts) {
  const latencies = [];
  for (let run = 0; run < starts; run += 1) {
    const began = new Promise((resolve) => { pickedUp = resolve; });
    await queue.add('step', { run, step: 1, sent: performance.now() });
    latencies.push(await began);
    await sleep(5 + 25 * Math.random());
  }
  return { latencies_ms: latencies };
}

if (mode !== 'pickup') {
  for (let from = 0; from < jobs; from += 1000) {
    const numbers = Array.from({ length: Math.min(1000, jobs - from) }, (_, n) => from + n);
    await queue.addBulk(numbers.map((run) => ({ name: 'step', data: { run, step: 1, sent: 0 } })));
  }
}
const worker = new Worker('measured', handle, { connection, concurrency: Number(args.concurrency) });
worker.on('error', (error) => console.error(error.message));
await worker.waitUntilReady();
if (mode === 'pickup') {
  await sleep(1000);
  console.log(JSON.stringify(await pickup(Number(args.starts))));
} else {
  console.log(JSON.stringify(await rate(jobs * (mode === 'chain' ? STEPS : 1))));
}
process.exit(0);
