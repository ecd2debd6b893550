-- What every script of a batch begins with (not a transition of its own): it is put in front of each of them.
-- All keys stand in the batch's slot {bg:<id>}, always these eight in this order (gateway.ledger.keys.of_batch):
--   1 meta        hash    what the batch is, its state, sums, seq
--   2 operations  hash    slice -> sealed operations, never rewritten
--   3 free        zset    slice -> since when it may be leased, ms; slices are six digits, so that they sort
--   4 leased      zset    slice -> until when, ms
--   5 slices      hash    e epoch, w worker, x losses, l found when, v of whom, t tries, p parts, c outcomes, g succeeded;
--                         each followed by the slice
--   6 done        bitmap  operations with an outcome
--   7 intended    bitmap  operations that may have been sent
--   8 parts       hash    slice.n -> "succeeded,failed,unknown,index,...\n" and the sealed outcomes; no bytes of those
--                         where the batch ended and nobody can know
-- ARGV[1] is the highest sequence of the batch that the caller knows to be on record, 0 for none.
-- Common answers: {'gone'} no such batch; {'behind', seq} the store went back in time: nothing was changed (D8).
-- Every change raises seq by one, in the same step; sums are raised in the same step as the part they come from.
local META, OPERATIONS, FREE, LEASED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SLICES, DONE, INTENDED, PARTS = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local TOMBSTONE_MS = 3600000 -- a deleted batch is told from a lost one for this long; also past its end of life

-- Equal to gateway.batch.states.TRANSITIONS (tests/integration/ledger/test_redis_transitions.py).
local NEXT = {
  accepted = {lease = 'processing', cancel = 'cancelling', expire = 'expired', ['break'] = 'failed'},
  processing = {
    lease = 'processing', cancel = 'cancelling', settle = 'completed', expire = 'expired', ['break'] = 'failed',
  },
  cancelling = {cancel = 'cancelling', settle = 'cancelled', expire = 'cancelled', ['break'] = 'failed'},
}
local FINAL = {completed = true, failed = true, cancelled = true, expired = true}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) -- the store's own clock, ms

local batch = {} -- the batch as it stands; nil state: there is none
local function load()
  local names = {
    'state', 'seq', 'paused', 'expires', 'begins', 'kept', 'gone', 'owner', 'accepted', 'priority', 'total',
    'slice_size', 'until', 'lasts',
  }
  local values = redis.call('HMGET', META, unpack(names))
  for i, name in ipairs(names) do
    batch[name] = values[i] or nil
  end
  for _, name in ipairs({'seq', 'expires', 'begins', 'kept', 'gone', 'accepted', 'total', 'slice_size', 'until', 'lasts'}) do
    batch[name] = tonumber(batch[name] or 0)
  end
end

-- Loads the batch; the answer to give where there is none, or an older one than the caller has seen.
local function refusal()
  load()
  if batch.seq < tonumber(ARGV[1]) then
    return {'behind', batch.seq}
  end
  if not batch.state or batch.state == 'deleted' then
    return {'gone'}
  end
  return nil
end

local function changed()
  batch.seq = redis.call('HINCRBY', META, 'seq', 1)
end

-- No key outlives its batch: a key that was made new gets the batch's end of life.
local function keep(key)
  if redis.call('PTTL', key) == -1 then
    redis.call('PEXPIREAT', key, batch.gone)
  end
end

local function running()
  return (batch.state == 'accepted' or batch.state == 'processing')
end

local function field(slice)
  return string.format('%06d', slice)
end

-- A mask says which bits of a bitmap are meant: where its first byte stands, 4 bytes, big-endian, and its bytes; '' for
-- none. Whether one of them is set, whether all are, and the bytes with all of them set.
local function compare(key, mask)
  if mask == '' then
    return false, true, ''
  end
  local from, count = struct.unpack('>I4', mask), #mask - 4
  local there = redis.call('GETRANGE', key, from, from + count - 1)
  local any, all, merged = false, true, {}
  for at = 1, count do
    local meant, found = string.byte(mask, at + 4), string.byte(there, at) or 0
    local set = bit.band(meant, found)
    any, all, merged[at] = any or set ~= 0, all and set == meant, string.char(bit.bor(meant, found))
  end
  return any, all, table.concat(merged)
end

-- Sets the bits of a mask; whether one of them was not set.
local function mark(key, mask)
  local _, all, merged = compare(key, mask)
  if not all then
    redis.call('SETRANGE', key, struct.unpack('>I4', mask), merged)
  end
  return not all
end

-- Puts a part on record of which no index has an outcome.
local function put(slice, header, mask, sealed)
  local succeeded, failed, unknown = string.match(header, '^(%d+),(%d+),(%d+)')
  mark(DONE, mask)
  keep(DONE)
  local n = redis.call('HINCRBY', SLICES, 'p' .. slice, 1)
  redis.call('HSET', PARTS, slice .. '.' .. n, header .. '\n' .. sealed)
  redis.call('HINCRBY', SLICES, 'c' .. slice, succeeded + failed)
  redis.call('HINCRBY', SLICES, 'g' .. slice, succeeded)
  redis.call('HINCRBY', META, 'succeeded', succeeded)
  redis.call('HINCRBY', META, 'failed', failed)
  redis.call('HINCRBY', META, 'unknown', unknown)
  keep(SLICES)
  keep(PARTS)
end

-- What was announced and has no outcome: slice -> indexes, ascending.
local function doubts()
  local found, intended, done = {}, redis.call('GET', INTENDED) or '', redis.call('GET', DONE) or ''
  for at = 1, #intended do
    local left = bit.band(string.byte(intended, at), bit.bnot(string.byte(done, at) or 0))
    for n = 0, left == 0 and -1 or 7 do
      if bit.band(left, bit.rshift(128, n)) ~= 0 then
        local index = 8 * (at - 1) + n
        local slice = math.floor(index / batch.slice_size)
        found[slice] = found[slice] or {}
        table.insert(found[slice], index)
      end
    end
  end
  return found
end

-- The mask of ascending indexes.
local function mask_of(indexes)
  local first, bytes = math.floor(indexes[1] / 8), {}
  for at = 1, math.floor(indexes[#indexes] / 8) - first + 1 do
    bytes[at] = 0
  end
  for _, index in ipairs(indexes) do
    local at = math.floor(index / 8) - first + 1
    bytes[at] = bit.bor(bytes[at], bit.rshift(128, index % 8))
  end
  for at, byte in ipairs(bytes) do
    bytes[at] = string.char(byte)
  end
  return struct.pack('>I4', first) .. table.concat(bytes)
end

-- Counts as unknown what was announced in a batch that has ended, has no outcome and stands in no lease: nobody comes
-- back to it.
local function leave_unknown()
  for slice, indexes in pairs(doubts()) do
    if not redis.call('ZSCORE', LEASED, field(slice)) then
      put(slice, '0,' .. #indexes .. ',' .. #indexes .. ',' .. table.concat(indexes, ','), mask_of(indexes), '')
    end
  end
  if redis.call('ZCARD', LEASED) == 0 then
    redis.call('DEL', INTENDED)
  end
end

-- The context goes, and the operations of every slice that succeeded whole.
local function erase()
  redis.call('HDEL', META, 'context')
  for slice = 0, math.ceil(batch.total / batch.slice_size) - 1 do
    local count = math.min(batch.slice_size, batch.total - slice * batch.slice_size)
    if tonumber(redis.call('HGET', SLICES, 'g' .. slice) or 0) == count then
      redis.call('HDEL', OPERATIONS, slice)
    end
  end
end

local function finish()
  batch.ended_age = math.max(0, now - batch.accepted)
  batch['until'] = now + batch.kept
  batch.gone = batch['until'] + TOMBSTONE_MS
  redis.call('HSET', META, 'ended', now, 'until', batch['until'], 'gone', batch.gone)
  erase()
  redis.call('HDEL', META, 'paused')
  redis.call('DEL', FREE)
  if batch.state == 'completed' then
    redis.call('DEL', INTENDED)
  else
    leave_unknown()
  end
  for _, key in ipairs({META, OPERATIONS, LEASED, SLICES, DONE, INTENDED, PARTS}) do
    redis.call('PEXPIREAT', key, batch.gone)
  end
end

-- The state after `event`, if it may happen: false where it may not.
local function advance(event)
  local after = (NEXT[batch.state] or {})[event]
  if not after then
    return false
  end
  if after ~= batch.state then
    batch.state = after
    redis.call('HSET', META, 'state', after)
    changed()
    if FINAL[after] then
      finish()
    end
  end
  return true
end

-- Takes the slice's lease away; in a batch that has ended nobody gets another one.
local function free(slice, since)
  redis.call('ZREM', LEASED, field(slice))
  if not FINAL[batch.state] then
    redis.call('ZADD', FREE, since, field(slice))
    keep(FREE)
  end
end

-- Leases whose time is up, or that the clock's step back has made longer than twice what was asked for, are lost; the
-- workers who had them.
local function rescue()
  local late = redis.call('ZRANGEBYSCORE', LEASED, '-inf', now)
  for _, slice in ipairs(redis.call('ZRANGEBYSCORE', LEASED, now + 2 * batch.lasts + 1, '+inf')) do
    late[#late + 1] = slice
  end
  local lost = {}
  for _, name in ipairs(late) do
    local slice = tonumber(name)
    lost[#lost + 1] = redis.call('HGET', SLICES, 'w' .. slice) or ''
    free(slice, 0)
    redis.call('HINCRBY', SLICES, 'x' .. slice, 1)
    redis.call('HSET', SLICES, 'l' .. slice, now, 'v' .. slice, lost[#lost])
  end
  if #late > 0 then
    changed()
    if FINAL[batch.state] then
      leave_unknown()
    end
  end
  return lost
end

-- Ends the batch where nothing of it is leased and nothing is left to do, or its time is up. In one that has ended, what
-- a worker left in doubt is unknown.
local function settle()
  if FINAL[batch.state] then
    leave_unknown()
    return
  end
  if redis.call('ZCARD', LEASED) > 0 then
    return
  end
  if (batch.state == 'cancelling' or redis.call('ZCARD', FREE) == 0) and advance('settle') then
    return
  end
  if now >= batch.expires then
    advance('expire')
  end
end

-- When a slice may be leased: 0 now, else ms (a lease may be lost by then), -1 for not at all.
local function ready_at()
  if not running() or batch.paused == '1' or now >= batch.expires then
    return -1
  end
  local first
  for _, key in ipairs({FREE, LEASED}) do
    local since = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if since and (not first or since < first) then
      first = since
    end
  end
  if not first then
    return -1
  end
  local at = math.max(first, batch.begins)
  return at <= now and 0 or at
end

-- When the sweep has to look at the batch again, ms.
local function due_at()
  local first = redis.call('ZRANGE', LEASED, 0, 0, 'WITHSCORES')
  if FINAL[batch.state] then
    return math.min(batch['until'], tonumber(first[2] or batch['until']))
  end
  if batch.state == 'cancelling' or now >= batch.expires then
    return tonumber(first[2] or now)
  end
  return math.min(batch.expires, tonumber(first[2] or batch.expires))
end

-- What the index of work is to know (lua/index_note.lua, ARGV 2 to 10); then the age of a batch that ended in this step,
-- -1 otherwise, and its dialect.
local function hint()
  return {
    batch.seq, batch.owner, batch.accepted, batch.priority, math.min(batch.slice_size, batch.total), batch.state,
    ready_at(), due_at(), batch.gone, batch.ended_age or -1, batch.ended_age and redis.call('HGET', META, 'dialect') or '',
  }
end

local function is_done(slice)
  local count = math.min(batch.slice_size, batch.total - slice * batch.slice_size)
  return tonumber(redis.call('HGET', SLICES, 'c' .. slice) or 0) == count
end
