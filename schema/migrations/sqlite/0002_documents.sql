-- Parts of a job's record that are large and seldom change have rows of their own: a transition writes what it
-- changed. `jobs.body` keeps the rest. A body that is no JSON is left as it is, to be found by whoever reads it.

CREATE TABLE documents (
    job TEXT NOT NULL REFERENCES jobs (id),
    -- The field of the record that it is.
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;

INSERT INTO documents (job, name, body)
SELECT j.id, part.name, j.body -> ('$.' || part.name)
FROM jobs j, (SELECT 'spec' AS name UNION ALL SELECT 'facts' UNION ALL SELECT 'decision' UNION ALL SELECT 'plan'
    UNION ALL SELECT 'proposed_plan' UNION ALL SELECT 'gate_facts' UNION ALL SELECT 'messages'
    UNION ALL SELECT 'integrated') part
WHERE CASE WHEN json_valid(j.body) THEN coalesce(json_type(j.body, '$.' || part.name), 'null') <> 'null' END;

UPDATE jobs SET body = json_remove(body, '$.spec', '$.facts', '$.decision', '$.plan', '$.proposed_plan',
    '$.gate_facts', '$.messages', '$.integrated', '$.tasks')
WHERE json_valid(body);
