-- Takes slices that nobody holds. A lease whose time is up counts as a loss first.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 most  3 lasts ms  4 worker
-- answer {'ok', hint, began, rescued, facts, slice, ...} | {'gone'} | {'behind', seq}
--       began: 1 where the batch was accepted before; rescued: the worker of each lease that was lost;
--       facts: {dialect, expires, context, key, total};
--       slice: {number, epoch, until, losses, found how long ago ms, of whom, tries, operations, done bits, intended
--       bits}, the bits of whole bytes
local known = refusal()
if known then
  return known
end
local most, lasts = tonumber(ARGV[2]), tonumber(ARGV[3])
local rescued = rescue()
if now >= batch.expires then
  settle()
end
if ready_at() ~= 0 then
  return {'ok', hint(), 0, rescued, {}}
end
local before = batch.state
local picked = redis.call('ZRANGEBYSCORE', FREE, '-inf', now, 'LIMIT', 0, most)
advance('lease')
changed()
redis.call('HSET', META, 'lasts', lasts)
batch.lasts = lasts
if before == 'accepted' then
  redis.call('HSET', META, 'started', now)
end
local answer = {
  'ok', false, before == 'accepted' and 1 or 0, rescued,
  redis.call('HMGET', META, 'dialect', 'expires', 'context', 'key', 'total'),
}
for _, name in ipairs(picked) do
  local slice = tonumber(name)
  -- By the clock, so that an epoch is never given twice, not even after the store lost some of its past.
  local epoch = math.max(tonumber(redis.call('HGET', SLICES, 'e' .. slice) or 0) + 1, now)
  redis.call('HSET', SLICES, 'e' .. slice, epoch, 'w' .. slice, ARGV[4])
  redis.call('ZREM', FREE, name)
  redis.call('ZADD', LEASED, now + lasts, name)
  local facts = redis.call('HMGET', SLICES, 'x' .. slice, 'l' .. slice, 'v' .. slice, 't' .. slice)
  local from = math.floor(slice * batch.slice_size / 8)
  local to = math.floor((math.min(batch.total, (slice + 1) * batch.slice_size) - 1) / 8)
  answer[#answer + 1] = {
    slice, epoch, now + lasts, tonumber(facts[1] or 0), math.max(0, now - tonumber(facts[2] or 0)), facts[3] or '',
    tonumber(facts[4] or 0),
    redis.call('HGET', OPERATIONS, slice) or '',
    redis.call('GETRANGE', DONE, from, to), redis.call('GETRANGE', INTENDED, from, to),
  }
end
keep(SLICES)
keep(LEASED)
answer[2] = hint()
return answer
