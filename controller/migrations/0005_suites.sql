-- Which agent carried a step out, and what was asserted of a check's answer; attempts of one run, quickly.

ALTER TABLE steps ADD COLUMN agent TEXT;
ALTER TABLE steps ADD COLUMN assertions TEXT NOT NULL DEFAULT '[]'; -- JSON

CREATE INDEX suite_runs_by_first_attempt ON suite_runs (rerun_of) WHERE rerun_of IS NOT NULL;
