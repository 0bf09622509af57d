PRAGMA user_version = 4;
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
CREATE TABLE audit (
    sequence     INTEGER PRIMARY KEY,       -- 1, 2, 3, … without a gap
    plugin       TEXT,                      -- its id; stays when the content is removed
    content      TEXT,                      -- JSON object; NULL once it is removed
    content_hash BLOB NOT NULL,             -- SHA-256 of the content as it was written
    previous     BLOB NOT NULL,             -- the hash of the row before
    hash         BLOB NOT NULL              -- of this row
) STRICT;
INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash) VALUES (1, 'appointments', '{"action":"install","salt":"252519ad17c5164610afa8f5329a6e3a"}', X'7144D09C98C53D724BCA739C0D2536A197BF2B2B516F3F0C97FA8711EBFC0FDA', X'0000000000000000000000000000000000000000000000000000000000000000', X'3115D7FD8BB08D36380E24EC502F4394D906693553166398D5C4FC5658147CB2');
INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash) VALUES (2, 'leaving', '{"action":"uninstall","salt":"9f0398996cefa2bc5b980f59bcff2ffb"}', X'1628F66AB7D20C4EED99CE74E08D9BDEE8BB0EB4A212080DFD5FAE96A6A4904E', X'3115D7FD8BB08D36380E24EC502F4394D906693553166398D5C4FC5658147CB2', X'C82CC625AE1559E75A89DF5DCD24342C2C44DB0AD0105B0216DF34A7756D4A16');
CREATE TABLE audit_open (
    sequence INTEGER PRIMARY KEY            -- of the row that says that it has begun
) STRICT;
INSERT INTO audit_open (sequence) VALUES (2);
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
