-- Puts a batch on record, whole or not at all; the same id again changes nothing.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 lives ms  3 kept ms  4 begins after ms  5 slices n  6 parts m  7 fields f
--       then n sealed operations, m times (slice, header, sealed), f times (name, value) of the meta hash
-- answer {'ok', hint} | {'gone'} deleted before | {'behind', seq}
local known = refusal()
if known and not (known[1] == 'gone' and not batch.state) then
  return known
end
if batch.state then
  return {'ok', hint()}
end
local lives, kept, begins = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local slices, parts, fields = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 7
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
at = 7 + slices
for i = 1, parts do
  put(tonumber(ARGV[at + 3 * i - 2]), ARGV[at + 3 * i - 1], ARGV[at + 3 * i])
end
for slice = 0, slices - 1 do
  if not is_done(slice) then
    redis.call('ZADD', FREE, 0, field(slice))
  end
end
for _, key in ipairs({META, OPERATIONS, FREE}) do
  keep(key)
end
return {'ok', hint()}
