-- Whose turn it is: owners take turns by operations served, and are charged for what is picked.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 most slices
-- answer {batch, slices, operations of a slice, ...}
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', now, 'LIMIT', 0, 100)) do
  local what = known(batch)
  if what then
    ready(batch, what)
  else
    redis.call('ZREM', LATER, batch)
  end
end
local order, counts, operations, left = {}, {}, {}, tonumber(ARGV[1])
while left > 0 do
  local turn = redis.call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')
  local owner = turn[1]
  if not owner then
    break
  end
  local front = first_of(READY, owner)
  local batch = front and string.match(front, '([^%z]*)$')
  local what = batch and known(batch)
  if what then
    redis.call('SET', CLOCK, turn[2], 'KEEPTTL')
    redis.call('ZINCRBY', TURNS, what.operations, owner)
    if not counts[batch] then
      order[#order + 1] = batch
    end
    counts[batch] = (counts[batch] or 0) + 1
    operations[batch] = what.operations
    left = left - 1
  elseif front then
    redis.call('ZREM', READY, front)
  else
    leave(owner)
  end
end
if redis.call('PTTL', CLOCK) == -1 then
  redis.call('PEXPIRE', CLOCK, math.max(redis.call('PTTL', WHAT), 1000))
end
local answer = {}
for _, batch in ipairs(order) do
  answer[#answer + 1] = batch
  answer[#answer + 1] = counts[batch]
  answer[#answer + 1] = operations[batch]
end
return answer
