-- Schedules with their occurrences, calendars, freezes, and what was moved to the front of the queue.

CREATE TABLE schedules (
    id             TEXT PRIMARY KEY NOT NULL,
    name           TEXT NOT NULL UNIQUE,
    draft          TEXT NOT NULL, -- what it runs and when, JSON
    paused         BIGINT NOT NULL DEFAULT 0,
    paused_until   TEXT, -- of a pause that ends by itself
    created_at     TEXT NOT NULL,
    author         TEXT NOT NULL,
    handled_at     TEXT NOT NULL -- every occurrence up to this moment has its row; whole seconds
);

-- One row per moment at which a schedule was due. The key is what makes an occurrence happen once.
CREATE TABLE occurrences (
    schedule  TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    due_at    TEXT NOT NULL, -- whole seconds
    state     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    kind      TEXT NOT NULL, -- suite or experiment
    run       TEXT, -- chosen before the run is handed in; no reference, for it may be of either kind
    noted_at  TEXT NOT NULL,
    PRIMARY KEY (schedule, due_at)
);

CREATE INDEX occurrences_by_moment ON occurrences (due_at);
CREATE INDEX occurrences_unsettled ON occurrences (state) WHERE state IN ('starting', 'waiting');

CREATE TABLE calendars (
    name       TEXT PRIMARY KEY NOT NULL,
    draft      TEXT NOT NULL, -- zone and windows, JSON
    author     TEXT NOT NULL,
    changed_at TEXT NOT NULL
);

-- Freezes, past ones too: an occurrence that is looked at late is judged by what was on at its moment.
CREATE TABLE freezes (
    id     INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    since  TEXT NOT NULL,
    until  TEXT,
    by_who TEXT NOT NULL
);

-- Runs that were moved before all others; the last one moved has the highest place.
CREATE TABLE queue_fronts (
    run   TEXT PRIMARY KEY NOT NULL,
    place BIGINT NOT NULL
);
