-- Ends holds of one owner by their fences; the same again changes nothing.
-- KEYS  1 the owner's keys; behind its name a string for each, and for what they keep (claim.lua)
-- ARGV  1 keep ms; then of the settlements  2 their group 8, their epoch 6, and their places, 4 each  3 names, 24 each
--         4 ends, a byte each (0 keep, 1 fail, 2 forget)  5 what is kept; its first 20 bytes are its name
-- answer  a digit for each settlement: 1 where it took effect now or had before, else 0
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))
local KEEP, FORGET = 0, 2
local STATES = { [0] = '1', [1] = '2' }
local sub = string.sub
local holders, names, kept = ARGV[2], ARGV[3], ARGV[5]
local group, epoch = sub(holders, 1, 8), sub(holders, 9, 14)
local kept_name, is_kept = sub(kept, 1, 20), false
local scores, answer = {}, {}

local function settled(key, name, fence, ending)
  local found = redis.call('GET', key)
  if not found then
    return ending == FORGET and 1 or 0
  end
  if sub(found, 25, 42) ~= fence then
    return 0
  end
  local state = sub(found, 43, 43)
  if state ~= '0' and state ~= '3' then
    return state == STATES[ending] and 1 or 0
  end
  if ending == FORGET then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], name)
    return 1
  end
  local says = sub(found, 1, 42) .. STATES[ending] .. sub(found, 44, 59)
  if ending == KEEP then
    says, is_kept = says .. kept_name, true
  end
  redis.call('SET', key, says, 'PXAT', ends)
  scores[#scores + 1], scores[#scores + 2] = ends, name
  return 1
end

for row = 0, #ARGV[4] - 1 do
  local name = sub(names, row * 24 + 1, row * 24 + 24)
  local fence = group .. sub(holders, row * 4 + 15, row * 4 + 18) .. epoch
  answer[row + 1] = settled(KEYS[1] .. name, name, fence, string.byte(ARGV[4], row + 1))
end
if is_kept then
  redis.call('SET', KEYS[1] .. kept_name, kept, 'PXAT', ends)
end
for first = 1, #scores, 2000 do
  redis.call('ZADD', KEYS[1], unpack(scores, first, math.min(first + 1999, #scores)))
end
return table.concat(answer)
