-- A breaker belongs to a worker, a tenant and an agent: what fails in one place shuts off nothing in others.

-- What was kept belonged to no worker. A breaker that is forgotten is closed.
DROP TABLE breakers;
CREATE TABLE breakers (
    worker TEXT NOT NULL,
    tenant TEXT NOT NULL,
    runtime TEXT NOT NULL,
    agent TEXT NOT NULL,
    body TEXT NOT NULL,
    -- When the worker was last known to be there.
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (worker, tenant, runtime, agent)
) STRICT, WITHOUT ROWID;
