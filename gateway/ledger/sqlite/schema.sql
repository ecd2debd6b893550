-- The embedded ledger, version 2. Large bytes stand in tables of their own, so that no change of a state rewrites them.
-- `batch` is everywhere the batch's number, which is never given out twice. Times are milliseconds since 1970.

CREATE TABLE marks (            -- numbers of the file as a whole: process_epoch, clock_ms, virtual_time, lost_ms
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO marks (name, value) VALUES ('process_epoch', 0), ('clock_ms', 0), ('virtual_time', 0), ('lost_ms', 0);

CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    dialect TEXT NOT NULL,
    state TEXT NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL,
    slice_size INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    begins_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms INTEGER,
    expires_ms INTEGER NOT NULL,
    kept_ms INTEGER NOT NULL,
    kept_until_ms INTEGER,
    key BLOB NOT NULL,
    retry_of TEXT,
    label TEXT NOT NULL         -- JSON
);
CREATE INDEX batches_of_owner ON batches (owner, number);
CREATE INDEX batches_of_owner_by_state ON batches (owner, state, number);
CREATE INDEX batches_unfinished_of_owner ON batches (owner) WHERE ended_ms IS NULL;
CREATE INDEX batches_by_state ON batches (state, accepted_ms);
CREATE INDEX batches_to_expire ON batches (expires_ms) WHERE ended_ms IS NULL;
CREATE INDEX batches_to_forget ON batches (kept_until_ms) WHERE kept_until_ms IS NOT NULL;

CREATE TABLE contexts (batch INTEGER PRIMARY KEY, sealed BLOB NOT NULL);

CREATE TABLE operations (
    batch INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (batch, slice)
);

CREATE TABLE slices (           -- what leases change: a few numbers
    batch INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    status INTEGER NOT NULL,    -- 0 free from ready_ms on, 1 held until ready_ms, 2 done
    ready_ms INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    lost_ms INTEGER NOT NULL DEFAULT 0, -- when it was last found that its worker was lost; 0 never
    PRIMARY KEY (batch, slice)
) WITHOUT ROWID;
CREATE INDEX slices_free ON slices (batch, ready_ms, slice) WHERE status = 0;
CREATE INDEX slices_held ON slices (batch, ready_ms) WHERE status = 1;

CREATE TABLE intents (          -- operations, as MessagePack, that may have been sent; gone when their slice is done
    batch INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    number INTEGER NOT NULL,
    indexes BLOB NOT NULL,
    PRIMARY KEY (batch, slice, number)
) WITHOUT ROWID;

CREATE TABLE parts (
    number INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    indexes BLOB NOT NULL,      -- MessagePack
    sealed BLOB NOT NULL
);
CREATE INDEX parts_counted ON parts (batch, slice, succeeded, failed, unknown);  -- sums touch no sealed bytes

CREATE TABLE queue (            -- batches with a free slice: one row each, due or asleep until wakes_ms
    batch INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,
    wakes_ms INTEGER NOT NULL,
    due INTEGER NOT NULL
);
CREATE INDEX queue_due ON queue (owner, priority DESC, batch) WHERE due = 1;
CREATE INDEX queue_asleep ON queue (wakes_ms) WHERE due = 0;

CREATE TABLE owners (           -- start-time fair queueing: whoever was served least is next
    number INTEGER PRIMARY KEY,
    owner TEXT NOT NULL UNIQUE,
    served INTEGER NOT NULL,    -- operations
    waiting INTEGER NOT NULL    -- 1: may have a due batch
);
CREATE INDEX owners_waiting ON owners (served, number) WHERE waiting = 1;
CREATE INDEX owners_idle ON owners (served) WHERE waiting = 0;

CREATE TABLE rubbish (batch INTEGER PRIMARY KEY);   -- forgotten batches whose bytes are still to be removed
