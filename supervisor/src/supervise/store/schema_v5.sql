-- Version 5: schedules: up to when each is dealt with, and what its runs came to.
CREATE TABLE schedule (
    plugin    TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    rule      TEXT NOT NULL,                -- cron and time zone; with other ones it begins anew
    accounted TEXT NOT NULL,                -- RFC 3339, UTC: all that was due until then is dealt with
    PRIMARY KEY (plugin, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule_run (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin   TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    due      TEXT,                          -- RFC 3339, UTC; NULL: somebody asked for it
    started  TEXT,                          -- NULL: it did not run
    ended    TEXT,                          -- NULL: it runs, or the supervisor died meanwhile
    outcome  TEXT,                          -- ok, failed, interrupted, skipped-overlap, missed; NULL: it runs
    code     TEXT,                          -- of the failure
    duration INTEGER,                       -- milliseconds, not by the clock that can be set
    count    INTEGER NOT NULL DEFAULT 1     -- due times that the row stands for; due is the last
) STRICT;

CREATE INDEX schedule_run_of ON schedule_run (plugin, name, number);

-- Drawn once, so that two machines do not begin their runs at the same moment.
CREATE TABLE schedule_seed (
    seed BLOB NOT NULL
) STRICT;

INSERT INTO schedule_seed (seed) VALUES (randomblob(16));
