-- A ledger of 0.1.0 in the middle of its work. Run 1 is in its fine-tuning, held by a worker that is gone; 2 and 3 are of one ticker and queued
-- (0.1.0 let both go); 4 has ended; 5 failed and waits to be closed. `id(n)` and `at(seconds)` are spelled by each database, NO is false.
-- migrations: 1
insert into schedule (id, exchange, plan, local_time, catch_up, paused) values ('nasdaq-daily', 'NASDAQ', 'ticker', '18:15', 'latest', NO);
insert into tick (schedule_id, session, runs, created_at) values ('nasdaq-daily', '2024-03-04', 2, at(0));
insert into run (id, plan, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key, state, verdict, reason, created_at, started_at, finished_at) values
 (id(1), 'ticker', 'NASDAQ', 'AAPL', '2024-03-04', '2024-03-04', 'nasdaq-daily', 0, NO, null, 'running', null, null, at(0), at(1), null),
 (id(2), 'ticker', 'NASDAQ', 'MSFT', '2024-03-04', '2024-03-04', 'nasdaq-daily', 0, NO, null, 'queued', null, null, at(0), null, null),
 (id(3), 'ticker', 'NASDAQ', 'MSFT', '2024-03-04', '2024-03-04', null, 10, NO, 'api:tuesday', 'queued', null, null, at(2), null, null),
 (id(4), 'ticker', 'NEPSE', 'NABIL', '2024-03-03', '2024-03-03', null, 10, NO, null, 'succeeded', null, 'well', at(0), at(1), at(9)),
 (id(5), 'ticker', 'NEPSE', 'CIT', '2024-03-03', '2024-03-03', null, 0, NO, null, 'running', 'failed', 'scrape gave up', at(0), at(1), null);
insert into step (run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, due_at, sent_at, lease_owner, lease_until, note, error, finished_at) values
 (id(1), 'scrape', 0, 'scrape', 'done', 1, 1, 8, 1, at(0), null, null, null, 'ok', null, at(2)),
 (id(1), 'finetune', 1, 'finetune', 'running', 1, 1, 3, 1, at(2), null, id(99), at(20), null, null, null),
 (id(1), 'cache', 2, 'cache', 'waiting', 0, 0, 6, 0, at(0), null, null, null, null, null, null),
 (id(1), 'archive', 3, 'archive', 'waiting', 0, 0, 10, 0, at(0), null, null, null, null, null, null),
 (id(1), 'cleanup', 4, 'cleanup', 'waiting', 0, 0, 20, 0, at(0), null, null, null, null, null, null),
 (id(2), 'scrape', 0, 'scrape', 'ready', 1, 0, 8, 0, at(0), at(1), null, null, null, null, null),
 (id(2), 'finetune', 1, 'finetune', 'waiting', 0, 0, 3, 0, at(0), null, null, null, null, null, null),
 (id(3), 'scrape', 0, 'scrape_now', 'ready', 1, 0, 8, 0, at(2), null, null, null, null, null, null),
 (id(4), 'cleanup', 4, 'cleanup_now', 'done', 1, 1, 20, 1, at(8), null, null, null, 'ok', null, at(9)),
 (id(5), 'scrape', 0, 'scrape', 'failed', 1, 1, 8, 1, at(0), null, null, null, null, 'gone', at(3)),
 (id(5), 'finetune', 1, 'finetune', 'skipped', 0, 0, 3, 0, at(0), null, null, null, null, null, at(3)),
 (id(5), 'cleanup', 4, 'cleanup', 'ready', 1, 0, 20, 0, at(3), at(3), null, null, null, null, null);
insert into attempt (run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail) values
 (id(1), 'scrape', 1, 1, 'old', at(1), at(2), 'done', 'ok'), (id(1), 'finetune', 1, 1, 'old', at(2), null, 'running', null),
 (id(4), 'cleanup', 1, 1, 'old', at(8), at(9), 'done', 'ok'), (id(5), 'scrape', 1, 1, 'old', at(1), at(3), 'failed', 'gone');
insert into effect (run_id, step, epoch, applied_at, detail) values (id(1), 'scrape', 1, at(2), 'ok');
