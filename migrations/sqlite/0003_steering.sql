-- Steering: which steps failed for good, and whether their runs were repeated, is asked for thousands of runs at once. Same version numbers
-- as ../postgres.

create index run_of_lineage on run (lineage) where lineage is not null;
create index step_failed on step (run_id) where state = 'failed';
