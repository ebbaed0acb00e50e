-- Names of agents are a tenant's own: two tenants may use the same one. Registrations are counted, and the number is
-- signed. The empty tenant is everybody.

DROP TRIGGER agent_versions_are_never_changed;
DROP TRIGGER agent_versions_are_never_deleted;

CREATE TABLE agents_of_tenants (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    current TEXT NOT NULL,
    -- Of the last registration; 0 = none was counted yet.
    number INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

INSERT INTO agents_of_tenants (tenant, name, owner, current, number)
    SELECT coalesce(tenant, ''), name, owner, current, 0 FROM agents;

CREATE TABLE versions_of_tenants (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    -- A version that was registered again has a row for each time, with the signature made for it.
    number INTEGER NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    registered_at INTEGER NOT NULL,
    -- As it was registered and signed.
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, name, digest, number),
    FOREIGN KEY (tenant, name) REFERENCES agents_of_tenants (tenant, name)
) STRICT;

INSERT INTO versions_of_tenants (tenant, name, digest, number, enabled, registered_at, body)
    SELECT coalesce(a.tenant, ''), v.name, v.digest, 0, v.enabled, v.registered_at, v.body
    FROM agent_versions v JOIN agents a ON a.name = v.name;

CREATE TABLE pins_of_tenants (
    tenant TEXT NOT NULL,
    -- The tenant's own agent, or everybody's: no name is both.
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    replaces INTEGER NOT NULL CHECK (replaces IN (0, 1)),
    PRIMARY KEY (tenant, name)
) STRICT;

INSERT INTO pins_of_tenants SELECT tenant, name, digest, replaces FROM agent_pins;

DROP TABLE agent_pins;
DROP TABLE agent_versions;
-- Of whose agent a record speaks; NULL for keys.
DROP TRIGGER agent_log_is_never_changed;
ALTER TABLE agent_log ADD COLUMN tenant TEXT;
UPDATE agent_log SET tenant = (SELECT coalesce(a.tenant, '') FROM agents a WHERE a.name = agent_log.name)
    WHERE name IS NOT NULL;
DROP TABLE agents;
DROP INDEX agent_log_by_name;

ALTER TABLE agents_of_tenants RENAME TO agents;
ALTER TABLE versions_of_tenants RENAME TO agent_versions;
ALTER TABLE pins_of_tenants RENAME TO agent_pins;

CREATE INDEX agents_by_name ON agents (name);
CREATE INDEX agent_versions_off ON agent_versions (name, tenant) WHERE enabled = 0;
CREATE INDEX agent_log_by_agent ON agent_log (tenant, name, seq);

CREATE TRIGGER agent_versions_are_never_changed
BEFORE UPDATE OF tenant, name, digest, number, registered_at, body ON agent_versions
BEGIN SELECT raise(ABORT, 'a version of an agent is never changed'); END;

CREATE TRIGGER agent_versions_are_never_deleted BEFORE DELETE ON agent_versions
BEGIN SELECT raise(ABORT, 'a version of an agent is never deleted'); END;

CREATE TRIGGER agent_log_is_never_changed BEFORE UPDATE ON agent_log
BEGIN SELECT raise(ABORT, 'records of the registry are never changed'); END;
