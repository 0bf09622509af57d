-- Version 2 of the store: what an operator grants, and what a plugin used when it was last stopped.
ALTER TABLE plugin ADD COLUMN granted TEXT;     -- JSON object; NULL: all that its manifest asks for
ALTER TABLE plugin ADD COLUMN last_usage TEXT;  -- JSON object with its time
