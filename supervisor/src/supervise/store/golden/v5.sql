PRAGMA user_version = 5;
CREATE TABLE plugin (
    id           TEXT PRIMARY KEY,
    version      TEXT NOT NULL,
    digest       TEXT NOT NULL,
    config       TEXT NOT NULL,             -- JSON object, as the operator gave it
    enabled      INTEGER NOT NULL,          -- what the operator wants: 0 or 1
    installed_at TEXT NOT NULL,             -- RFC 3339, UTC
    last_exit    TEXT,                      -- JSON object: how it ended the last time it ran
    state_bytes  INTEGER NOT NULL DEFAULT 0 -- keys and values of its state
, granted TEXT, last_usage TEXT, previous TEXT) STRICT;
INSERT INTO plugin (id, version, digest, config, enabled, installed_at, last_exit, state_bytes, granted, last_usage, previous) VALUES ('appointments', '1.2.3-rc.1', 'ae6e417faee4f746934c610f019af4e7cc30a88dbe4368b376e293782dbf581c', '{"timezone":"America/New_York","workingHours":{"start":"09:00"}}', 1, '2026-01-01T00:00:00.000Z', '{"explanation":"exited with code 7","time":"2026-01-02T00:00:00.000Z"}', 24, '{"permissions":["read:appointments"]}', '{"memoryPeakBytes":4194304,"time":"2026-01-02T00:00:00.000Z"}', '{"digest":"6db7d803e74f1ffa7d8f5adc0bf95b3e15bf4c8373fffadf546227cc6c6742cb","granted":null,"installedAt":"2025-12-01T00:00:00.000Z","version":"1.1.0"}');
INSERT INTO plugin (id, version, digest, config, enabled, installed_at, last_exit, state_bytes, granted, last_usage, previous) VALUES ('leaving', '1.2.3-rc.1', 'b353c86ecca83ccdef0116ec587373193bc1526943db793d6daa4330e52a2bd7', '{"timezone":"America/New_York","workingHours":{"start":"09:00"}}', 0, '2026-01-01T00:00:00.000Z', NULL, 0, NULL, NULL, NULL);
CREATE TABLE state (
    plugin  TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    version INTEGER NOT NULL,               -- 1 at the first write, one more at each
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;
INSERT INTO state (plugin, key, value, version) VALUES ('appointments', 'lastSync', X'22323032362D30312D303222', 1);
INSERT INTO state (plugin, key, value, version) VALUES ('appointments', 'raw', X'32', 2);
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time     TEXT NOT NULL,                 -- RFC 3339, UTC, milliseconds
    name     TEXT NOT NULL,                 -- plugin:enabled
    plugin   TEXT,
    body     TEXT NOT NULL                  -- JSON object
) STRICT;
INSERT INTO event (sequence, time, name, plugin, body) VALUES (1, '2026-01-01T00:00:00.000Z', 'plugin:installed', 'appointments', '{"version":"1.2.3-rc.1"}');
CREATE TABLE operation (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin    TEXT NOT NULL UNIQUE,         -- one at a time on each plugin
    principal TEXT NOT NULL,                -- JSON object: on whose word
    step      TEXT NOT NULL,                -- the one that was intended last
    plan      TEXT NOT NULL,                -- JSON object: kind, and what was and what is to be
    started   TEXT NOT NULL,                -- RFC 3339, UTC
    undoing   INTEGER NOT NULL DEFAULT 0    -- 1: it failed, and what was done is taken back
) STRICT;
INSERT INTO operation (number, plugin, principal, step, plan, started, undoing) VALUES (1, 'leaving', '{}', 'storage', '{"force":false,"from":{"config":{"timezone":"America/New_York","workingHours":{"start":"09:00"}},"digest":"b353c86ecca83ccdef0116ec587373193bc1526943db793d6daa4330e52a2bd7","enabled":false,"granted":null,"id":"leaving","installedAt":"2026-01-01T00:00:00.000Z","lastExit":null,"lastUsage":null,"previous":null,"version":"1.2.3-rc.1"},"kind":"uninstall","to":null}', '2026-11-28T10:21:01.240Z', 0);
CREATE TABLE snapshot (
    plugin TEXT PRIMARY KEY REFERENCES plugin (id) ON DELETE CASCADE
) STRICT;
INSERT INTO snapshot (plugin) VALUES ('appointments');
CREATE TABLE snapshot_entry (
    plugin  TEXT NOT NULL REFERENCES snapshot (plugin) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;
INSERT INTO snapshot_entry (plugin, key, value, version) VALUES ('appointments', 'lastSync', X'22323032362D30312D303222', 1);
INSERT INTO snapshot_entry (plugin, key, value, version) VALUES ('appointments', 'raw', X'32', 2);
CREATE TABLE audit (
    sequence     INTEGER PRIMARY KEY,       -- 1, 2, 3, … without a gap
    plugin       TEXT,                      -- its id; stays when the content is removed
    content      TEXT,                      -- JSON object; NULL once it is removed
    content_hash BLOB NOT NULL,             -- SHA-256 of the content as it was written
    previous     BLOB NOT NULL,             -- the hash of the row before
    hash         BLOB NOT NULL              -- of this row
) STRICT;
INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash) VALUES (1, 'appointments', '{"action":"install","salt":"e745d88a9759c11aa011a2d40d27950f"}', X'A24C4FD635B4DD42F3F35FC9BCCC1A15AF2D580060957BE7C5A9F24418CC6FFE', X'0000000000000000000000000000000000000000000000000000000000000000', X'FC958F6CCA73D1F8ED19EB86373D052EFE9C39EA4DDB92DBFCCD3BE1FE368759');
INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash) VALUES (2, 'leaving', '{"action":"uninstall","salt":"2a49b61386e5a7143fb0bf3924b1eac9"}', X'C3C83C976D916B27143607FF6B2CAAC0D4D25CBE4E26CCD23B221C3353CF0570', X'FC958F6CCA73D1F8ED19EB86373D052EFE9C39EA4DDB92DBFCCD3BE1FE368759', X'5C8627C4E4BB5D20D4F9922A5FBE990DC2970377EB47CAB666597DF5BE301602');
CREATE TABLE audit_open (
    sequence INTEGER PRIMARY KEY            -- of the row that says that it has begun
) STRICT;
INSERT INTO audit_open (sequence) VALUES (2);
CREATE TABLE schedule (
    plugin    TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    rule      TEXT NOT NULL,                -- cron and time zone; with other ones it begins anew
    accounted TEXT NOT NULL,                -- RFC 3339, UTC: all that was due until then is dealt with
    PRIMARY KEY (plugin, name)
) STRICT, WITHOUT ROWID;
INSERT INTO schedule (plugin, name, rule, accounted) VALUES ('appointments', 'nightly', '30 2 * * * UTC', '2026-01-02T02:30:00.000Z');
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
INSERT INTO schedule_run (number, plugin, name, due, started, ended, outcome, code, duration, count) VALUES (1, 'appointments', 'nightly', '2026-01-02T02:30:00.000Z', '2026-01-02T02:30:00.000Z', '2026-01-02T02:30:00.000Z', 'failed', 'TIMEOUT', 7, 1);
CREATE TABLE schedule_seed (
    seed BLOB NOT NULL
) STRICT;
INSERT INTO schedule_seed (seed) VALUES (X'1D9F8CB808427331C6D77510A0A368B8');
UPDATE sqlite_sequence SET seq = 1 WHERE name = 'event';
CREATE TRIGGER state_added AFTER INSERT ON state BEGIN
    UPDATE plugin SET state_bytes = state_bytes + length(CAST(new.key AS BLOB)) + length(new.value)
    WHERE id = new.plugin;
END;
CREATE TRIGGER state_changed AFTER UPDATE ON state BEGIN
    UPDATE plugin SET state_bytes = state_bytes + length(new.value) - length(old.value)
    WHERE id = new.plugin;
END;
CREATE TRIGGER state_removed AFTER DELETE ON state BEGIN
    UPDATE plugin SET state_bytes = state_bytes - length(CAST(old.key AS BLOB)) - length(old.value)
    WHERE id = old.plugin;
END;
CREATE INDEX audit_plugin ON audit (plugin, sequence) WHERE plugin IS NOT NULL;
CREATE INDEX schedule_run_of ON schedule_run (plugin, name, number);
