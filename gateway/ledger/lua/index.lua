-- What every script of the index begins with (not a transition of its own): it is put in front of each of them.
-- The index of work is a hint; the truth about a batch stands in the batch's own slot. What is lost here is found again
-- by the sweep. All keys stand in the slot {bg:index}, always these eleven in this order (gateway.ledger.keys.INDEX):
--   1 what    hash  batch -> MessagePack {seq, owner, accepted ms, order, operations of a slice, state}
--   2 ready   zset  owner NUL order NUL batch, by name: what may be leased now
--   3 later   zset  batch -> ms: what may be leased then
--   4 open    zset  owner NUL batch, by name: what has not ended
--   5 mine    zset  owner NUL accepted NUL batch, by name
--   6 states  zset  state NUL accepted NUL batch, by name
--   7 due     zset  batch -> ms: when the sweep looks at it
--   8 turns   zset  owner -> operations served, of owners with ready work (start-time fair queueing)
--   9 served  zset  owner -> the same, of owners without, as long as it is ahead of the clock
--  10 clock   string  operations served to the owner whose turn was last
--  11 lost    string  the worker that was found lost last
-- Names instead of scores where the order has two parts; NUL parts them, for no owner or id has it.
local WHAT, READY, LATER, OPEN, MINE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local STATES, DUE, TURNS, SERVED, CLOCK, LOST = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local FINAL = {completed = true, failed = true, cancelled = true, expired = true}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function name(...)
  return table.concat({...}, '\0')
end

local function known(batch)
  local packed = redis.call('HGET', WHAT, batch)
  if not packed then
    return nil
  end
  local what = cmsgpack.unpack(packed)
  return {seq = what[1], owner = what[2], accepted = what[3], order = what[4], operations = what[5], state = what[6]}
end

local function remember(batch, what)
  redis.call('HSET', WHAT, batch,
    cmsgpack.pack({what.seq, what.owner, what.accepted, what.order, what.operations, what.state}))
end

-- Every key of the index lives as long as the batch in it that lives longest.
local function keep(gone)
  for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < gone - now then
      redis.call('PEXPIREAT', key, gone)
    end
  end
end

local function clock()
  return tonumber(redis.call('GET', CLOCK) or 0)
end

-- An owner comes with work: from the clock on, or behind what it was served before.
local function enter(owner)
  if not redis.call('ZSCORE', TURNS, owner) then
    redis.call('ZADD', TURNS, math.max(clock(), tonumber(redis.call('ZSCORE', SERVED, owner) or 0)), owner)
    redis.call('ZREM', SERVED, owner)
  end
end

-- An owner has no more work: what it was served counts until the clock has passed it.
local function leave(owner)
  local served = tonumber(redis.call('ZSCORE', TURNS, owner) or 0)
  redis.call('ZREM', TURNS, owner)
  if served > clock() then
    redis.call('ZADD', SERVED, served, owner)
  end
  redis.call('ZREMRANGEBYSCORE', SERVED, '-inf', clock())
end

local function first_of(key, prefix)
  return redis.call('ZRANGEBYLEX', key, '[' .. prefix .. '\0', '(' .. prefix .. '\1', 'LIMIT', 0, 1)[1]
end

local function count_of(key, prefix)
  return redis.call('ZLEXCOUNT', key, '[' .. prefix .. '\0', '(' .. prefix .. '\1')
end

local function ready(batch, what)
  redis.call('ZREM', LATER, batch)
  redis.call('ZADD', READY, 0, name(what.owner, what.order, batch))
  enter(what.owner)
end

local function not_ready(batch, what)
  redis.call('ZREM', LATER, batch)
  if redis.call('ZREM', READY, name(what.owner, what.order, batch)) == 1 and not first_of(READY, what.owner) then
    leave(what.owner)
  end
end
