-- Registered agents, each version for itself, and what was done to them. A tenant of '' is everybody.

CREATE TABLE agents (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, name, digest)
) STRICT, WITHOUT ROWID;

-- The version that a tenant wants, where it is not the newest one.
CREATE TABLE agent_pins (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    change TEXT NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT
) STRICT;

CREATE TRIGGER agent_log_is_never_changed BEFORE UPDATE ON agent_log
BEGIN SELECT raise(ABORT, 'what was done to agents is never changed'); END;

CREATE TRIGGER agent_log_is_never_deleted BEFORE DELETE ON agent_log
BEGIN SELECT raise(ABORT, 'what was done to agents is never deleted'); END;
