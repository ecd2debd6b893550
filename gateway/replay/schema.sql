-- Idempotency keys of one replica, version 2. Times are milliseconds since 1970.
CREATE TABLE keys (
    name BLOB PRIMARY KEY,
    owner BLOB NOT NULL,
    digest BLOB NOT NULL,
    state INTEGER NOT NULL,      -- 0 held, 1 kept, 2 failed, 3 lost
    fence BLOB NOT NULL,         -- of the last hold
    repeatable INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,   -- a hold is lost then
    ends_ms INTEGER NOT NULL,    -- the key is free again then
    kept BLOB                    -- names its outcome, which others may share
);
CREATE INDEX keys_of_owner ON keys (owner, ends_ms);
CREATE INDEX keys_to_end ON keys (ends_ms);
CREATE TABLE outcomes (          -- one or many together
    name BLOB PRIMARY KEY,
    kept BLOB NOT NULL,
    ends_ms INTEGER NOT NULL     -- as its keys
);
CREATE INDEX outcomes_to_end ON outcomes (ends_ms);
