-- Steering: which steps failed for good, and whether their runs were repeated, is asked for thousands of runs at once, also before the
-- server has statistics. Same version numbers as ../sqlite.

create index run_of_lineage on run (lineage) where lineage is not null;
create index step_failed on step (run_id) where state = 'failed';
