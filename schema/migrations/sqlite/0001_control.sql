-- The control store. `body` columns hold the whole record as JSON; the other columns are what is searched, fenced
-- and verified. Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    submitter TEXT NOT NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- The end of the job's audit chain: a record cut off the end is missed here.
    audit_seq INTEGER NOT NULL,
    audit_head TEXT NOT NULL,
    event_seq INTEGER NOT NULL,
    progress_kept INTEGER NOT NULL DEFAULT 0,
    -- Without the tasks.
    body TEXT NOT NULL
) STRICT;

CREATE INDEX jobs_by_age ON jobs (created_at, id);
CREATE INDEX jobs_by_state ON jobs (state, created_at, id);
CREATE INDEX jobs_by_tenant ON jobs (tenant, created_at, id);

CREATE TABLE tasks (
    job TEXT NOT NULL REFERENCES jobs (id),
    slug TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    session TEXT,
    not_before INTEGER NOT NULL,
    deadline INTEGER,
    last_progress INTEGER NOT NULL DEFAULT 0,
    progress_next INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    PRIMARY KEY (job, slug)
) STRICT;

CREATE INDEX tasks_to_claim ON tasks (kind, not_before) WHERE state = 'READY';
CREATE INDEX tasks_leased ON tasks (session) WHERE state = 'LEASED';

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs (id),
    version INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    job TEXT NOT NULL REFERENCES jobs (id),
    seq INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'audit records are never changed'); END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'audit records are never deleted'); END;

-- Also forbids INSERT OR REPLACE.
CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
WHEN NEW.seq <> 1 + (SELECT coalesce(max(seq), 0) FROM audit WHERE job = NEW.job)
BEGIN SELECT raise(ABORT, 'an audit record follows the last one'); END;

CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs (id),
    effect TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    done_at INTEGER
) STRICT;

CREATE INDEX outbox_due ON outbox (id) WHERE done_at IS NULL;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    revoked INTEGER NOT NULL CHECK (revoked IN (0, 1)),
    body TEXT NOT NULL
) STRICT;

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
