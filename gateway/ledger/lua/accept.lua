-- Puts a batch on record, whole or not at all; the same id again changes nothing.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 lives ms  3 kept ms  4 begins after ms
--       5 worker  6 indexes that it has on their way, by comma  7 lasts ms, of the leases on their slices
--       8 slices n  9 parts m  10 fields f
--       then n sealed operations, m times (slice, header, sealed), f times (name, value) of the meta hash
-- answer {'ok', hint, is_new: 1 where it was put on record in this step} | {'gone'} deleted before | {'behind', seq}
local FIRST_EPOCH = 1 -- gateway.ledger.port
local known = refusal()
if known and not (known[1] == 'gone' and not batch.state) then
  return known
end
if batch.state then
  return {'ok', hint(), 0}
end
local lives, kept, begins = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local slices, parts, fields = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local at = 10
for slice = 0, slices - 1 do
  redis.call('HSET', OPERATIONS, slice, ARGV[at + 1 + slice])
end
at = at + slices + 3 * parts
for i = 1, fields do
  redis.call('HSET', META, ARGV[at + 2 * i - 1], ARGV[at + 2 * i])
end
begins = begins > 0 and now + begins or 0 -- 0: at once, wherever the clock goes
redis.call('HSET', META, 'state', 'accepted', 'seq', 0, 'accepted', now, 'expires', now + lives, 'begins', begins,
  'kept', kept, 'gone', now + lives + kept + TOMBSTONE_MS)
load()
changed()
at = 10 + slices
for i = 1, parts do
  put(tonumber(ARGV[at + 3 * i - 2]), ARGV[at + 3 * i - 1], ARGV[at + 3 * i])
end
local held = {}
for _, index in ipairs(numbers(ARGV[6])) do
  held[math.floor(index / batch.slice_size)] = true
end
if next(held) then
  bits(INTENDED, numbers(ARGV[6]), 'SET')
  redis.call('HSET', META, 'lasts', ARGV[7], 'started', now)
  batch.lasts = tonumber(ARGV[7])
  advance('lease')
end
for slice = 0, slices - 1 do
  if held[slice] then
    redis.call('HSET', SLICES, 'e' .. slice, FIRST_EPOCH, 'w' .. slice, ARGV[5])
    redis.call('ZADD', LEASED, now + batch.lasts, field(slice))
  elseif not is_done(slice) then
    redis.call('ZADD', FREE, 0, field(slice))
  end
end
for _, key in ipairs({META, OPERATIONS, FREE, LEASED, SLICES, INTENDED}) do
  keep(key)
end
return {'ok', hint(), 1}
