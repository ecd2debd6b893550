-- Ends holds of one owner by their fences; the same again changes nothing.
-- KEYS  1 the owner's keys  2.. a hash for each settlement (claim.lua)
-- ARGV  1 keep ms, then four for each settlement: name, fence, end (0 keep, 1 fail, 2 forget), the sealed outcome
-- answer  1 for each settlement that took effect now or had before, else 0
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))
local STATES = {['0'] = '1', ['1'] = '2'}

local function settled(key, name, fence, ending, kept)
  local found = redis.call('HMGET', key, 's', 'f')
  if not found[1] then
    return ending == '2' and 1 or 0
  end
  if found[2] ~= fence then
    return 0
  end
  if found[1] ~= '0' and found[1] ~= '3' then
    return found[1] == STATES[ending] and 1 or 0
  end
  if ending == '2' then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], name)
    return 1
  end
  redis.call('HSET', key, 's', STATES[ending])
  if ending == '0' then
    redis.call('HSET', key, 'o', kept)
  end
  redis.call('PEXPIREAT', key, ends)
  redis.call('ZADD', KEYS[1], ends, name)
  return 1
end

local answer = {}
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 4
  answer[#answer + 1] = settled(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
return answer
