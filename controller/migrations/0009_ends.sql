-- What ended in a stretch of time, and which runs are steps of suites: the digest asks for both.
CREATE INDEX runs_by_end ON runs (ended_at) WHERE state = 'judged';
CREATE INDEX suite_runs_by_end ON suite_runs (ended_at) WHERE state = 'ended';
CREATE INDEX steps_by_run ON steps (run) WHERE run IS NOT NULL;
