-- Ends holds of one owner by their fences; the same again changes nothing.
-- KEYS  1 the owner's keys; behind its name a string for each of what they keep  2 when to look for ended ones (claim.lua)
-- ARGV  1 keep ms; then of the settlements  2 their group 8, their epoch 6, and their places, 4 each  3 names, 24 each
--         4 ends, a byte each (0 keep, 1 fail, 2 forget)  5 what is kept; its first 20 bytes are its name
-- answer  a digit for each settlement: 1 where it took effect now or had before, else 0
local KEEP, FORGET = 0, 2
local AT_ONCE = 1000
local sub, byte, number = string.sub, string.byte, struct.unpack
local keys, ends = KEYS[1], KEYS[2]
local holders, all_names, endings, kept = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local count = #endings

local time = redis.call('TIME')
local keep_ms = tonumber(ARGV[1])
local ends_ms = time[1] * 1000 + math.floor(time[2] / 1000) + keep_ms
local ends_text, ends_packed = string.format('%.0f', ends_ms), struct.pack('>I6', ends_ms)
local group, epoch, kept_name = sub(holders, 1, 8), sub(holders, 9, 14), sub(kept, 1, 20)
local STATES = { [0] = byte('1'), [1] = byte('2') }
local BEHIND = { [0] = '1' .. ends_packed .. kept_name, [1] = '2' .. ends_packed }
local own, changed, forgotten, moved, is_kept, is_later = {}, {}, {}, {}, false, false

-- What ends much sooner than was foreseen is looked at then, and what ends later is not lost before. The rest is looked
-- at as foreseen, late by less than it is kept: to move each would take as long as all that is done here.
local function move(name, foreseen_ms)
  local at = #moved
  moved[at + 1], moved[at + 2], is_later = ends_text, name, is_later or ends_ms > foreseen_ms
end

local function settled(row, name, record)
  local ending = byte(endings, row)
  if not record then
    return ending == FORGET and 1 or 0
  end
  if sub(record, 25, 42) ~= group .. sub(holders, row * 4 + 11, row * 4 + 14) .. epoch then
    return 0
  end
  local state, foreseen_ms = number('>BI6', record, 50)
  if state == STATES[0] or state == STATES[1] then
    return state == STATES[ending] and 1 or 0
  end
  if ending == FORGET then
    forgotten[#forgotten + 1], own[name] = name, false
    return 1
  end
  local at, ended = #changed, sub(record, 1, 49) .. BEHIND[ending]
  changed[at + 1], changed[at + 2], own[name] = name, ended, ended
  is_kept = is_kept or ending == KEEP
  if ends_ms > foreseen_ms or foreseen_ms - ends_ms > keep_ms then
    move(name, foreseen_ms)
  end
  return 1
end

local function each(command, key, values)
  for first = 1, #values, 2 * AT_ONCE do
    redis.call(command, key, unpack(values, first, math.min(first + 2 * AT_ONCE - 1, #values)))
  end
end

local names, answer = {}, {}
for row = 1, count do
  names[row] = sub(all_names, row * 24 - 23, row * 24)
end
for first = 1, count, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, count)
  local found = redis.call('HMGET', keys, unpack(names, first, last))
  for row = first, last do
    local record = own[names[row]]
    if record == nil then
      record = found[row - first + 1]
    end
    answer[row] = settled(row, names[row], record)
  end
end
each('HSET', keys, changed)
each('HDEL', keys, forgotten)
each('ZADD', ends, moved)
if is_later then
  local last_ms = string.format('%.0f', tonumber(redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2]))
  redis.call('PEXPIREAT', keys, last_ms)
  redis.call('PEXPIREAT', ends, last_ms)
end
if is_kept then
  redis.call('SET', keys .. kept_name, kept, 'PXAT', ends_text)
end
return table.concat(answer)
