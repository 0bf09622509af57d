-- Version 4: the audit, a chain of hashes. See docs/audit.md, audit_chain.rs and supervise/audit.
CREATE TABLE audit (
    sequence     INTEGER PRIMARY KEY,       -- 1, 2, 3, … without a gap
    plugin       TEXT,                      -- its id; stays when the content is removed
    content      TEXT,                      -- JSON object; NULL once it is removed
    content_hash BLOB NOT NULL,             -- SHA-256 of the content as it was written
    previous     BLOB NOT NULL,             -- the hash of the row before
    hash         BLOB NOT NULL              -- of this row
) STRICT;

CREATE INDEX audit_plugin ON audit (plugin, sequence) WHERE plugin IS NOT NULL;

-- Operations that have begun and whose end is not yet written.
CREATE TABLE audit_open (
    sequence INTEGER PRIMARY KEY            -- of the row that says that it has begun
) STRICT;
