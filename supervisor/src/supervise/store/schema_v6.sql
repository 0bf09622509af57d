-- Version 6: what each plugin used, in rolled-up form.
CREATE TABLE usage (
    plugin            TEXT NOT NULL REFERENCES plugin (id) ON DELETE CASCADE,
    step              INTEGER NOT NULL,     -- seconds of a row: 60 or 900
    time              INTEGER NOT NULL,     -- its beginning: seconds since the epoch, a multiple of step
    covered           INTEGER NOT NULL,     -- milliseconds of it in which the plugin was looked at
    memory            INTEGER,              -- bytes, the mean; NULL here and below: it was not observed
    memory_peak       INTEGER,              -- bytes, the most that was seen
    cpu               INTEGER,              -- microseconds of CPU time
    throttled         INTEGER,              -- microseconds in which it was held back
    pids              INTEGER,              -- the most that were seen
    io_read           INTEGER,              -- bytes
    io_written        INTEGER,              -- bytes
    storage           INTEGER,              -- bytes, what was seen last
    network_received  INTEGER,              -- bytes
    network_sent      INTEGER,              -- bytes
    PRIMARY KEY (plugin, step, time)
) STRICT, WITHOUT ROWID;
