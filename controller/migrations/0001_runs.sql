-- Runs and everything that is recorded about them. Moments are RFC 3339 text in UTC, so they sort as they are;
-- structured values that are only ever read whole are JSON text; histograms are HdrHistogram V2, deflated.

CREATE TABLE runs (
    id          TEXT PRIMARY KEY NOT NULL, -- UUID v7: sorts by creation
    name        TEXT NOT NULL,
    target      TEXT NOT NULL,
    state       TEXT NOT NULL,
    verdict     TEXT,
    reasons     TEXT NOT NULL,
    experiment  TEXT NOT NULL, -- the validated experiment with its target and source, JSON
    planned_s   DOUBLE PRECISION NOT NULL,
    measured_s  BIGINT NOT NULL DEFAULT 0,
    created_at  TEXT NOT NULL,
    started_at  TEXT,
    ended_at    TEXT
);

-- One row per second, worker (part numbers the frames that one agent sent for one second) and request name.
CREATE TABLE frames (
    run       TEXT NOT NULL REFERENCES runs (id),
    second    BIGINT NOT NULL,
    agent     TEXT NOT NULL,
    part      BIGINT NOT NULL,
    request   TEXT NOT NULL,
    count     BIGINT NOT NULL,
    failures  TEXT NOT NULL,
    bytes     BIGINT NOT NULL,
    response  BLOB NOT NULL,
    service   BLOB NOT NULL,
    PRIMARY KEY (run, second, agent, part, request)
);

CREATE TABLE arrivals (
    run       TEXT NOT NULL REFERENCES runs (id),
    second    BIGINT NOT NULL,
    agent     TEXT NOT NULL,
    part      BIGINT NOT NULL,
    scenario  TEXT NOT NULL,
    scheduled BIGINT NOT NULL,
    started   BIGINT NOT NULL,
    dropped   BIGINT NOT NULL,
    PRIMARY KEY (run, second, agent, part, scenario)
);

-- One row per frame: which seconds were measured, and how the worker fared.
CREATE TABLE workers (
    run            TEXT NOT NULL REFERENCES runs (id),
    second         BIGINT NOT NULL,
    agent          TEXT NOT NULL,
    part           BIGINT NOT NULL,
    busy_users     BIGINT NOT NULL,
    lag            BLOB NOT NULL,
    cpu_us         BIGINT NOT NULL,
    resident_bytes BIGINT NOT NULL,
    PRIMARY KEY (run, second, agent, part)
);

CREATE TABLE fault_events (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    fault    TEXT NOT NULL,
    state    TEXT NOT NULL,
    at_ms    BIGINT NOT NULL,
    detail   TEXT NOT NULL,
    PRIMARY KEY (run, position)
);

CREATE TABLE audits (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    report   TEXT NOT NULL,
    PRIMARY KEY (run, position)
);

CREATE TABLE warnings (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    message  TEXT NOT NULL,
    PRIMARY KEY (run, position)
);

-- Guards as last evaluated before the run ended.
CREATE TABLE guards (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    view     TEXT NOT NULL,
    PRIMARY KEY (run, position)
);
