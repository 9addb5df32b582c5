-- History: bundles of runs that went, so that a run can be found and brought back. Same version numbers and columns as ../postgres; what
-- each column means stands there in COMMENT ON.

create table bundle (
    name text primary key, state text not null check (state in ('making', 'made', 'abandoned')), month text,
    runs integer not null default 0, bytes integer not null default 0, manifest_sha256 text,
    oldest integer, newest integer, first_run blob, last_run blob, created_at integer not null,
    check (state <> 'made' or (manifest_sha256 is not null and oldest is not null and newest is not null and first_run is not null and last_run is not null))
) strict, without rowid;
create index bundle_by_run on bundle (last_run) where state = 'made';
