-- History: bundles of runs that went, so that a run can be found and brought back. Same version numbers and columns as ../sqlite.

create table bundle (
    name text primary key, state text not null check (state in ('making', 'made', 'abandoned')), month text,
    runs bigint not null default 0, bytes bigint not null default 0, manifest_sha256 text,
    oldest timestamptz, newest timestamptz, first_run uuid, last_run uuid, created_at timestamptz not null,
    check (state <> 'made' or (manifest_sha256 is not null and oldest is not null and newest is not null and first_run is not null and last_run is not null))
);
create index bundle_by_run on bundle (last_run) where state = 'made';

comment on table bundle is 'A folder of files in the history folder that holds runs which are here no more.';
comment on column bundle.name is 'The folder''s name.';
comment on column bundle.state is 'making: announced before its folder is made; made: by the transaction that drops its runs here; abandoned: its folder is to be removed.';
comment on column bundle.month is 'YYYY-MM: it holds a monthly partition set, which is never made again. Null: it holds single rows.';
comment on column bundle.runs is 'How many runs it holds.';
comment on column bundle.bytes is 'The size of its files together.';
comment on column bundle.manifest_sha256 is 'Of the file manifest.json, which has the checksums of the others.';
comment on column bundle.oldest is 'When its first run was started.';
comment on column bundle.newest is 'When its last run was started.';
comment on column bundle.first_run is 'Its smallest run id.';
comment on column bundle.last_run is 'Its greatest run id.';
