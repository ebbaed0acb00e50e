-- The order of merges is a number on each merge, not a list that every merge writes anew. A list or a task that is no
-- JSON is left as it is, to be found by whoever reads it.

UPDATE tasks SET body = json_set(tasks.body, '$.merge_number', merged.number)
FROM (SELECT d.job, 'integrate.' || e.value AS slug, e.key + 1 AS number
    FROM documents d, json_each(CASE WHEN json_valid(d.body) THEN d.body ELSE '[]' END) e
    WHERE d.name = 'integrated') merged
WHERE tasks.job = merged.job AND tasks.slug = merged.slug AND json_valid(tasks.body);

DELETE FROM documents WHERE name = 'integrated' AND json_valid(body);
