-- Holds leases on; also those of a batch that runs no further, so that nobody takes them before their end.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 lasts ms  then (slice, epoch) pairs
-- answer {'ok', held, ...} with held 1 to go on, 0 to stop | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local lasts = tonumber(ARGV[2])
local goes_on = running() and batch.paused ~= '1' and now < batch.expires
local answer = {'ok'}
for i = 3, #ARGV, 2 do
  local slice = tonumber(ARGV[i])
  local held = redis.call('HGET', SLICES, 'e' .. slice) == ARGV[i + 1] and redis.call('ZSCORE', LEASED, field(slice))
  if held and not (FINAL[batch.state] and tonumber(held) <= now) then -- what has ended is over when its lease is
    redis.call('ZADD', LEASED, now + lasts, field(slice))
    redis.call('HSET', META, 'lasts', math.max(lasts, batch.lasts))
  end
  answer[#answer + 1] = (held and goes_on) and 1 or 0
end
return answer
