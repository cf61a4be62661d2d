-- Channels, rules, what is to be sent and what was, and what is remembered so that only changes are told.

-- Whether what a run means was worked out. Runs from before there were notifications are nobody's news.
ALTER TABLE runs ADD COLUMN notified BIGINT NOT NULL DEFAULT 0;
UPDATE runs SET notified = 1 WHERE state = 'judged';
CREATE INDEX runs_not_notified ON runs (ended_at) WHERE notified = 0;

ALTER TABLE suite_runs ADD COLUMN notified BIGINT NOT NULL DEFAULT 0;
UPDATE suite_runs SET notified = 1 WHERE state = 'ended';
CREATE INDEX suite_runs_not_notified ON suite_runs (ended_at) WHERE notified = 0;

-- Occurrences of schedules that were missed and told of.
CREATE TABLE notified_occurrences (
    schedule TEXT NOT NULL,
    due_at   TEXT NOT NULL,
    PRIMARY KEY (schedule, due_at)
);

CREATE INDEX occurrences_missed ON occurrences (due_at) WHERE state IN ('missed', 'failed');

CREATE TABLE notification_channels (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    destination   TEXT NOT NULL, -- with its secrets, JSON
    allow_private BIGINT NOT NULL,
    enabled       BIGINT NOT NULL
);

CREATE TABLE notification_rules (
    id             INTEGER PRIMARY KEY,
    channel        BIGINT NOT NULL REFERENCES notification_channels (id) ON DELETE CASCADE,
    rule           TEXT NOT NULL, -- JSON
    digest_from    TEXT NOT NULL, -- up to where the last digest told
    next_digest_at TEXT -- absent for rules that tell at once or are not in use
);

-- The outbox and the log in one: a row is written with what caused it and sent afterwards.
CREATE TABLE deliveries (
    id           TEXT PRIMARY KEY NOT NULL, -- UUID v7: sorts by creation
    channel      BIGINT REFERENCES notification_channels (id) ON DELETE SET NULL,
    channel_name TEXT NOT NULL,
    rule         BIGINT REFERENCES notification_rules (id) ON DELETE SET NULL,
    event        TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject      TEXT NOT NULL,
    run          TEXT, -- no reference, for it may be of either kind
    title        TEXT NOT NULL,
    body         TEXT NOT NULL, -- exactly what is sent
    head         TEXT NOT NULL, -- headers of the last attempt
    state        TEXT NOT NULL,
    attempts     BIGINT NOT NULL,
    code         BIGINT,
    answer       TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    tried_at     TEXT,
    next_try_at  TEXT
);

CREATE INDEX deliveries_waiting ON deliveries (next_try_at) WHERE state = 'waiting';
CREATE INDEX deliveries_by_channel ON deliveries (channel, tried_at);

-- What is remembered of a suite or an experiment from one run to the next, per branch.
CREATE TABLE notification_standings (
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    branch   TEXT NOT NULL,
    standing TEXT NOT NULL, -- JSON
    failing  BIGINT NOT NULL,
    is_step  BIGINT NOT NULL, -- whether its last run was a step of a suite, which tells of it too
    PRIMARY KEY (kind, name, branch)
);

-- What happened, for digests.
CREATE TABLE notification_events (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    event   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    labels  TEXT NOT NULL, -- JSON
    is_step BIGINT NOT NULL,
    title   TEXT NOT NULL,
    link    TEXT
);

CREATE INDEX notification_events_by_moment ON notification_events (at);

CREATE TABLE notification_settings (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
