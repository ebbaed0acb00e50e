-- Blobs that are kept for a job though its record does not name them: traces of results that came too late.
CREATE TABLE kept_blobs (
    job TEXT NOT NULL REFERENCES jobs (id),
    digest TEXT NOT NULL,
    PRIMARY KEY (job, digest)
) STRICT, WITHOUT ROWID;
