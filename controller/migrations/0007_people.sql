-- Accounts, invitations, API tokens, sessions of browsers, single sign-on. Of secrets only digests are kept.

CREATE TABLE accounts (
    name          TEXT PRIMARY KEY NOT NULL,
    role          TEXT NOT NULL,
    password      TEXT, -- argon2id, PHC string format
    issuer        TEXT, -- the sign-on provider it comes from, and who it is there
    subject       TEXT,
    created_at    TEXT NOT NULL,
    disabled_at   TEXT,
    last_login_at TEXT,
    UNIQUE (issuer, subject)
);

-- An invitation is gone once it is used.
CREATE TABLE invitations (
    digest     TEXT PRIMARY KEY NOT NULL,
    account    TEXT NOT NULL REFERENCES accounts (name),
    created_by TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE TABLE api_tokens (
    id           TEXT PRIMARY KEY NOT NULL,
    digest       TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    owner        TEXT NOT NULL, -- an account, or `local`
    role         TEXT NOT NULL,
    scope        TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    expires_at   TEXT,
    last_used_at TEXT,
    revoked_at   TEXT
);

-- Sessions without an account are logins that were begun at a sign-on provider.
CREATE TABLE sessions (
    digest     TEXT PRIMARY KEY NOT NULL,
    account    TEXT REFERENCES accounts (name),
    data       TEXT NOT NULL, -- JSON
    created_at TEXT NOT NULL,
    seen_at    TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE INDEX sessions_by_account ON sessions (account);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- One row at most.
CREATE TABLE sign_on (
    id       BIGINT PRIMARY KEY NOT NULL CHECK (id = 1),
    settings TEXT NOT NULL -- JSON; no secret
);

CREATE INDEX audit_log_by_who ON audit_log (who, id);
