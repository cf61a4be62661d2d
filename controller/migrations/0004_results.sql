-- What pages about tests read: narrow tables, so that neither a matrix nor a list of failures touches messages and
-- traces of other runs. They follow from test_results and are kept with it in one transaction.

-- How a test ended in a run: the last attempt of each step that ran it, the worst of them.
CREATE TABLE test_history (
    test        BIGINT NOT NULL REFERENCES tests (id),
    suite_run   TEXT NOT NULL REFERENCES suite_runs (id),
    outcome     TEXT NOT NULL,
    on_retry    BIGINT NOT NULL, -- it passed, but an earlier attempt had not
    duration_ms DOUBLE PRECISION NOT NULL,
    attempt     BIGINT NOT NULL DEFAULT 1, -- the one in test_results that this tells of
    PRIMARY KEY (test, suite_run)
);

CREATE INDEX test_history_by_run ON test_history (suite_run, test, outcome, on_retry, duration_ms);

-- A test as its runs left it.
CREATE TABLE test_standings (
    test          BIGINT PRIMARY KEY NOT NULL REFERENCES tests (id),
    suite         TEXT NOT NULL,
    outcome       TEXT NOT NULL, -- of the last run that had it
    last_run      TEXT NOT NULL REFERENCES suite_runs (id),
    duration_ms   DOUBLE PRECISION NOT NULL,
    fingerprint   TEXT, -- of the last failure
    message       TEXT NOT NULL, -- of the last failure, its beginning
    failing_since TEXT, -- first run of the streak of failures that has not ended
    failing_runs  BIGINT NOT NULL,
    last_passed   TEXT,
    flaky         BIGINT NOT NULL,
    score         DOUBLE PRECISION NOT NULL,
    strip         TEXT NOT NULL -- the last 30 results, oldest first, JSON
);

CREATE INDEX test_standings_by_suite ON test_standings (suite, test);
CREATE INDEX test_standings_failing ON test_standings (fingerprint, suite, failing_since, failing_runs, test)
    WHERE failing_since IS NOT NULL;

-- Lists of tests by what is worst come without sorting all of them.
CREATE INDEX test_standings_by_since ON test_standings (failing_since DESC, test);
CREATE INDEX test_standings_by_duration ON test_standings (duration_ms DESC, test);
CREATE INDEX test_standings_flaky ON test_standings (score DESC, test) WHERE flaky <> 0;

ALTER TABLE tests ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'; -- JSON
ALTER TABLE test_results ADD COLUMN step_attempt BIGINT NOT NULL DEFAULT 1;

-- Names that a test had before it was renamed.
CREATE TABLE test_aliases (
    suite      TEXT NOT NULL,
    class      TEXT NOT NULL,
    name       TEXT NOT NULL,
    parameters TEXT NOT NULL,
    test       BIGINT NOT NULL REFERENCES tests (id),
    PRIMARY KEY (suite, class, name, parameters)
);

CREATE INDEX test_aliases_by_test ON test_aliases (test);

-- Tests whose failures do not fail their suite; a row whose end has passed means nothing.
CREATE TABLE mutes (
    test       BIGINT PRIMARY KEY NOT NULL REFERENCES tests (id),
    reason     TEXT NOT NULL,
    owner      TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL
);

-- What people wrote about a run of an experiment (`run`), of a suite (`suite-run`) or a test (`test`).
CREATE TABLE notes (
    id      INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    text    TEXT NOT NULL,
    author  TEXT NOT NULL,
    at      TEXT NOT NULL
);

CREATE INDEX notes_by_subject ON notes (kind, subject);

ALTER TABLE runs ADD COLUMN labels TEXT NOT NULL DEFAULT '[]'; -- JSON
ALTER TABLE suite_runs ADD COLUMN pinned BIGINT NOT NULL DEFAULT 0; -- its artifacts stay

-- Looking through runs reads this and not the experiments in the rows.
CREATE INDEX runs_by_words ON runs (id, name, target, verdict, state, labels);
CREATE INDEX suite_runs_pinned ON suite_runs (id) WHERE pinned <> 0;
CREATE INDEX artifacts_by_age ON artifacts (created_at, id);

-- How long artifacts stay; one row.
CREATE TABLE retention (
    id          BIGINT PRIMARY KEY NOT NULL,
    days        BIGINT, -- NULL for ever
    total_bytes BIGINT  -- NULL without limit
);

INSERT INTO retention (id, days, total_bytes) VALUES (1, 90, 20000000000);
