PRAGMA user_version = 3;
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
INSERT INTO operation (number, plugin, principal, step, plan, started, undoing) VALUES (1, 'leaving', '{}', 'storage', '{"force":false,"from":{"config":{"timezone":"America/New_York","workingHours":{"start":"09:00"}},"digest":"b353c86ecca83ccdef0116ec587373193bc1526943db793d6daa4330e52a2bd7","enabled":false,"granted":null,"id":"leaving","installedAt":"2026-01-01T00:00:00.000Z","lastExit":null,"lastUsage":null,"previous":null,"version":"1.2.3-rc.1"},"kind":"uninstall","to":null}', '2026-11-28T07:43:57.951Z', 0);
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
