-- Puts a batch on record, whole or not at all; the same id again changes nothing.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 lives ms  3 kept ms  4 begins after ms
--       5 worker  6 mask of the operations that it has on their way  7 slices that they stand in, by comma
--       8 lasts ms, of the leases on these  9 slices n  10 parts m  11 fields f
--       then n sealed operations, m times (slice, header, mask, sealed), f times (name, value) of the meta hash
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
local slices, parts, fields = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local at = 11
for slice = 0, slices - 1 do
  redis.call('HSET', OPERATIONS, slice, ARGV[at + 1 + slice])
end
at = at + slices + 4 * parts
for i = 1, fields do
  redis.call('HSET', META, ARGV[at + 2 * i - 1], ARGV[at + 2 * i])
end
begins = begins > 0 and now + begins or 0 -- 0: at once, wherever the clock goes
redis.call('HSET', META, 'state', 'accepted', 'seq', 0, 'accepted', now, 'expires', now + lives, 'begins', begins,
  'kept', kept, 'gone', now + lives + kept + TOMBSTONE_MS)
load()
changed()
at = 11 + slices
for i = 1, parts do
  put(tonumber(ARGV[at + 4 * i - 3]), ARGV[at + 4 * i - 2], ARGV[at + 4 * i - 1], ARGV[at + 4 * i])
end
local held = {}
for slice in string.gmatch(ARGV[7], '%d+') do
  held[tonumber(slice)] = true
end
if next(held) then
  mark(INTENDED, ARGV[6])
  redis.call('HSET', META, 'lasts', ARGV[8], 'started', now)
  batch.lasts = tonumber(ARGV[8])
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
