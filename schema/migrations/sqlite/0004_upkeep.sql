-- What reconcilers look for: jobs that wait for a moment, open jobs by tenant, and effects that were done long ago.

-- The moment at which time alone moves the job; NULL = never. Jobs from before this step get theirs with their next
-- transition; until then the slow pass over every open job looks at them.
ALTER TABLE jobs ADD COLUMN due_at INTEGER;

CREATE INDEX jobs_by_due ON jobs (due_at, id) WHERE due_at IS NOT NULL;

CREATE INDEX jobs_open ON jobs (tenant, id) WHERE state NOT IN ('REJECTED', 'COMPLETED', 'FAILED', 'CANCELLED');

CREATE INDEX outbox_by_done ON outbox (done_at) WHERE done_at IS NOT NULL;
