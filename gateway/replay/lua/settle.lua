-- Ends holds of one owner by their fences; the same again changes nothing.
-- KEYS  1 the owner's keys; behind its name a hash for each (claim.lua)
-- ARGV  1 keep ms  2 the settlements: name 24 bytes, fence 18, end 1 (0 keep, 1 fail, 2 forget), the length of the sealed
--         outcome 4, big-endian, and the outcome
-- answer  a digit for each settlement: 1 where it took effect now or had before, else 0
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

local settlements, answer = ARGV[2], {}
local at = 1
while at <= #settlements do
  local name = string.sub(settlements, at, at + 23)
  local length = struct.unpack('>I4', settlements, at + 43)
  answer[#answer + 1] = settled(KEYS[1] .. name, name, string.sub(settlements, at + 24, at + 41),
    string.sub(settlements, at + 42, at + 42), string.sub(settlements, at + 47, at + 46 + length))
  at = at + 47 + length
end
return table.concat(answer)
