-- Files with their versions, runs of suites with their steps, tests and results, artifacts, the audit log.

CREATE TABLE file_versions (
    kind     TEXT NOT NULL, -- experiment, suite or target
    name     TEXT NOT NULL,
    version  BIGINT NOT NULL,
    source   TEXT NOT NULL,
    author   TEXT NOT NULL,
    message  TEXT NOT NULL,
    saved_at TEXT NOT NULL,
    PRIMARY KEY (kind, name, version)
);

-- The current version of each file; removed files keep their versions.
CREATE TABLE files (
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, name),
    FOREIGN KEY (kind, name, version) REFERENCES file_versions (kind, name, version)
);

CREATE TABLE suite_runs (
    id         TEXT PRIMARY KEY NOT NULL, -- UUID v7: sorts by creation
    suite      TEXT NOT NULL,
    version    BIGINT,
    source     TEXT NOT NULL,
    state      TEXT NOT NULL,
    verdict    TEXT,
    reasons    TEXT NOT NULL, -- JSON
    origin     TEXT NOT NULL,
    started_by TEXT NOT NULL,
    rerun_of   TEXT REFERENCES suite_runs (id),
    attempt    BIGINT NOT NULL,
    parameters TEXT NOT NULL, -- JSON
    labels     TEXT NOT NULL, -- JSON
    steps_only TEXT NOT NULL, -- paths of the steps to run, JSON; empty for all
    priority   BIGINT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at   TEXT,
    passed     BIGINT NOT NULL DEFAULT 0, -- tests by outcome, last attempt of each
    failed     BIGINT NOT NULL DEFAULT 0,
    error      BIGINT NOT NULL DEFAULT 0,
    skipped    BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX suite_runs_by_suite ON suite_runs (suite, id);
CREATE INDEX suite_runs_unfinished ON suite_runs (state) WHERE state <> 'ended';

-- One row per attempt of a step.
CREATE TABLE steps (
    suite_run  TEXT NOT NULL REFERENCES suite_runs (id),
    position   BIGINT NOT NULL, -- order of display
    path       TEXT NOT NULL,
    attempt    BIGINT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL,
    outcome    TEXT,
    message    TEXT NOT NULL,
    run        TEXT REFERENCES runs (id),
    started_at TEXT,
    ended_at   TEXT,
    has_log    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (suite_run, path, attempt)
);

-- A test is known by suite, class, name and parameters, and keeps its identity from run to run.
CREATE TABLE tests (
    id         INTEGER PRIMARY KEY,
    suite      TEXT NOT NULL,
    class      TEXT NOT NULL,
    name       TEXT NOT NULL,
    parameters TEXT NOT NULL,
    UNIQUE (suite, class, name, parameters)
);

CREATE TABLE test_results (
    suite_run   TEXT NOT NULL REFERENCES suite_runs (id),
    test        BIGINT NOT NULL REFERENCES tests (id),
    attempt     BIGINT NOT NULL,
    step        TEXT NOT NULL, -- path of the step that ran it
    outcome     TEXT NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    message     TEXT NOT NULL,
    fingerprint TEXT, -- of the normalised message, where it failed
    detail      TEXT NOT NULL, -- stack trace, keywords, output
    PRIMARY KEY (suite_run, test, attempt)
);

CREATE INDEX test_results_by_test ON test_results (test, suite_run);
CREATE INDEX test_results_by_fingerprint ON test_results (fingerprint) WHERE fingerprint IS NOT NULL;

-- Files that a run left behind; their bytes lie in the data directory under artifacts/RUN/ID.
CREATE TABLE artifacts (
    id         TEXT PRIMARY KEY NOT NULL,
    suite_run  TEXT NOT NULL REFERENCES suite_runs (id),
    step       TEXT NOT NULL,
    attempt    BIGINT NOT NULL,
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      BIGINT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE INDEX artifacts_by_run ON artifacts (suite_run);

-- Who did what; rows are only ever added.
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    who     TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
);
