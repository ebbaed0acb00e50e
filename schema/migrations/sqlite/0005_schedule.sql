-- What a claim needs, so that it reads only tasks it may take, in the order in which they are served.

-- Empty until the task is placed.
ALTER TABLE tasks ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
-- Tenant and needs: every task of a queue fits the same workers.
ALTER TABLE tasks ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN urgency INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
-- Ready, and its job's state admits it.
ALTER TABLE tasks ADD COLUMN claimable INTEGER NOT NULL DEFAULT 0 CHECK (claimable IN (0, 1));
-- Of agent tasks: who runs it, and how.
ALTER TABLE tasks ADD COLUMN agent TEXT;
ALTER TABLE tasks ADD COLUMN runtime TEXT;

DROP INDEX tasks_to_claim;
CREATE INDEX tasks_waiting ON tasks (queue, urgency, rank DESC, job, slug, not_before) WHERE claimable = 1;
CREATE INDEX tasks_running ON tasks (tenant, job, agent, runtime) WHERE state = 'LEASED';

-- Passes of tenants above the virtual time (`meta`); the others are as good as none.
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    pass INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Agents that have failed of late.
CREATE TABLE breakers (
    runtime TEXT NOT NULL,
    agent TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (runtime, agent)
) STRICT, WITHOUT ROWID;
