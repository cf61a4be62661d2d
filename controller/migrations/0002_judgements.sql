-- What a run that is over came to, so that reading it needs no frames: they stay for judging again.
CREATE TABLE judgements (
    run     TEXT PRIMARY KEY NOT NULL REFERENCES runs (id),
    detail  TEXT NOT NULL, -- the run as the API shows it, JSON
    series  TEXT NOT NULL  -- its seconds as the API shows them, JSON
);
