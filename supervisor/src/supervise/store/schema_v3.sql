-- Version 3: operations that survive any death, and what an upgrade can return to.
CREATE TABLE operation (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin    TEXT NOT NULL UNIQUE,         -- one at a time on each plugin
    principal TEXT NOT NULL,                -- JSON object: on whose word
    step      TEXT NOT NULL,                -- the one that was intended last
    plan      TEXT NOT NULL,                -- JSON object: kind, and what was and what is to be
    started   TEXT NOT NULL,                -- RFC 3339, UTC
    undoing   INTEGER NOT NULL DEFAULT 0    -- 1: it failed, and what was done is taken back
) STRICT;

-- An uninstallation that was under way goes on from where it could not be undone any more.
INSERT INTO operation (plugin, principal, step, plan, started)
SELECT id, '{"uid":null,"name":"bulkhead","onBehalfOf":null}', 'storage',
       json_object('kind', 'uninstall', 'force', json('false'), 'to', NULL, 'from', json_object(
           'id', id, 'version', version, 'digest', digest, 'config', json(config),
           'enabled', json('false'), 'installedAt', installed_at, 'lastExit', NULL,
           'previous', NULL)),
       installed_at
FROM plugin WHERE uninstalling = 1;

ALTER TABLE plugin DROP COLUMN uninstalling;
-- JSON object: the version before, which a rollback returns to.
ALTER TABLE plugin ADD COLUMN previous TEXT;

-- The state of a plugin as it was before an upgrade that is not committed.
CREATE TABLE snapshot (
    plugin TEXT PRIMARY KEY REFERENCES plugin (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE snapshot_entry (
    plugin  TEXT NOT NULL REFERENCES snapshot (plugin) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;
