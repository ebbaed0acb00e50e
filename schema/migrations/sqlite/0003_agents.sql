-- The registry of agents. Names are one list for the whole installation. Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    -- NULL = everybody's.
    tenant TEXT,
    owner TEXT NOT NULL,
    current TEXT NOT NULL
) STRICT;

CREATE TABLE agent_versions (
    name TEXT NOT NULL REFERENCES agents (name),
    digest TEXT NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    registered_at INTEGER NOT NULL,
    -- As it was registered and signed.
    body TEXT NOT NULL,
    PRIMARY KEY (name, digest)
) STRICT;

CREATE TRIGGER agent_versions_are_never_changed BEFORE UPDATE OF name, digest, registered_at, body ON agent_versions
BEGIN SELECT raise(ABORT, 'a version of an agent is never changed'); END;

CREATE TRIGGER agent_versions_are_never_deleted BEFORE DELETE ON agent_versions
BEGIN SELECT raise(ABORT, 'a version of an agent is never deleted'); END;

CREATE TABLE agent_pins (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL REFERENCES agents (name),
    digest TEXT NOT NULL,
    replaces INTEGER NOT NULL CHECK (replaces IN (0, 1)),
    PRIMARY KEY (tenant, name)
) STRICT;

-- The first key that each identity signed with.
CREATE TABLE agent_signers (
    tenant TEXT NOT NULL,
    identity TEXT NOT NULL,
    public_key TEXT NOT NULL,
    PRIMARY KEY (tenant, identity)
) STRICT;

CREATE TABLE agent_log (
    seq INTEGER PRIMARY KEY,
    -- The agent it is about; NULL for keys.
    name TEXT,
    record TEXT NOT NULL
) STRICT;

CREATE INDEX agent_log_by_name ON agent_log (name, seq);

CREATE TRIGGER agent_log_is_never_changed BEFORE UPDATE ON agent_log
BEGIN SELECT raise(ABORT, 'records of the registry are never changed'); END;

CREATE TRIGGER agent_log_is_never_deleted BEFORE DELETE ON agent_log
BEGIN SELECT raise(ABORT, 'records of the registry are never deleted'); END;

-- Also forbids INSERT OR REPLACE.
CREATE TRIGGER agent_log_grows_at_its_end BEFORE INSERT ON agent_log
WHEN NEW.seq <> 1 + (SELECT coalesce(max(seq), 0) FROM agent_log)
BEGIN SELECT raise(ABORT, 'a record of the registry follows the last one'); END;
