-- Version 1 of the store. A later version is a later file; this one does not change.
CREATE TABLE plugin (
    id           TEXT PRIMARY KEY,
    version      TEXT NOT NULL,
    digest       TEXT NOT NULL,
    config       TEXT NOT NULL,             -- JSON object, as the operator gave it
    enabled      INTEGER NOT NULL,          -- what the operator wants: 0 or 1
    installed_at TEXT NOT NULL,             -- RFC 3339, UTC
    last_exit    TEXT,                      -- JSON object: how it ended the last time it ran
    uninstalling INTEGER NOT NULL DEFAULT 0, -- 1: only what is left of it is to be removed
    state_bytes  INTEGER NOT NULL DEFAULT 0 -- keys and values of its state
) STRICT;

CREATE TABLE state (
    plugin  TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    version INTEGER NOT NULL,               -- 1 at the first write, one more at each
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time     TEXT NOT NULL,                 -- RFC 3339, UTC, milliseconds
    name     TEXT NOT NULL,                 -- plugin:enabled
    plugin   TEXT,
    body     TEXT NOT NULL                  -- JSON object
) STRICT;
