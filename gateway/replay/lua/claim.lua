-- Claims keys of one owner, all in one step; the same claim again (its fence) answers the same.
-- KEYS  1 the owner's keys: a hash, name -> digest 24, fence 18, 1 where it is repeatable else 0, until when it is held 6,
--         state 1 (0 held, 1 kept, 2 failed, 3 lost), when it ends 6; of a kept one the name of what it keeps 20. Behind
--         its own name, in its slot, stands a string for each of these names: what keys keep, one or many together
--       2 when to look for keys that have ended: a zset, names that were claimed together, in one piece -> ms
-- ARGV  1 numbers with a space between them: hold ms, keep ms, most keys of the owner; then of the claims  2 their group
--         8, their epoch 6, and their places, 4 each  3 names, 24 each  4 digests, 24 each  5 flags, a byte each:
--         1 repeatable, 2 anew, 3 both
-- answer  1 the verdicts (gateway.replay.port.Verdict), a digit for each claim  2 of each kept or lost key the fence of
--         its last hold, 18, and which of the following it keeps, 4, from 0  3.. what is kept, each once
-- A fence is a group, 8 bytes, a place in it, 4, and the epoch of its hold, 6. Times are ms, all numbers big-endian.
-- One command reads many keys, and one writes them: a few for each would take most of a server's time.
local HELD, BUSY, REUSED, KEPT, LOST, FULL = 0, 1, 2, 3, 4, 5
local AT_ONCE, TOGETHER, SWEPT, LOOKED_AT, SPARE = 1000, 100, 16, 2000, 100
local sub, byte, pack, number = string.sub, string.byte, struct.pack, struct.unpack
local keys, ends = KEYS[1], KEYS[2]
local holders, all_names, digests, flags = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local count = #flags

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local hold_ms, keep_ms, keys_max = string.match(ARGV[1], '(%d+) (%d+) (%d+)')
local until_ms = now + hold_ms
local ends_ms = until_ms + keep_ms

local function names_of(together)
  local names = {}
  for place = 1, #together / 24 do
    names[place] = sub(together, place * 24 - 23, place * 24)
  end
  return names
end

local function look_at(together, at_ms)
  redis.call('ZADD', ends, string.format('%.0f', at_ms), together)
end

-- Removes those that have ended; how many.
local function removed(together)
  local names, ended = names_of(together), {}
  redis.call('ZREM', ends, together)
  for place, record in ipairs(redis.call('HMGET', keys, unpack(names))) do
    local at_ms = record and number('>I6', record, 51)
    if at_ms and at_ms <= now then
      ended[#ended + 1] = names[place]
    elseif at_ms then
      look_at(names[place], at_ms)
    end
  end
  return #ended > 0 and redis.call('HDEL', keys, unpack(ended)) or 0
end

-- As many as may be claimed now, twice: they go faster than they come. Names that were forgotten stand there for nothing:
-- of these, however many there are, one call looks at few.
local wanted = SWEPT + 2 * count
local left = LOOKED_AT + wanted
repeat
  local due = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, SWEPT)
  for _, together in ipairs(due) do
    wanted, left = wanted - removed(together), left - #together / 24
  end
until #due == 0 or wanted <= 0 or left <= 0

-- What was forgotten, or is held again, stands there still until it is due. Where that is much beside the keys that there
-- are, some of it goes, wherever it stands: more than comes.
local there, listed = redis.call('HLEN', keys), redis.call('ZCARD', ends)
if listed > there + SPARE then
  local at = (time[1] * 1000000 + time[2]) % listed
  for _, together in ipairs(redis.call('ZRANGE', ends, at, at + 4 * math.ceil(count / TOGETHER) - 1)) do
    there = there - removed(together)
  end
end

local room = keys_max - there
local group, epoch = sub(holders, 1, 8), sub(holders, 9, 14)
local behind = pack('>I6', until_ms) .. '0' .. pack('>I6', ends_ms)
local BEHIND = { [0] = epoch .. '0' .. behind, [1] = epoch .. '1' .. behind }
local own, changed, held, told, answer, numbers = {}, {}, {}, {}, {'', ''}, {}

local function place_of(row)
  return sub(holders, row * 4 + 11, row * 4 + 14)
end

local function digest_of(row)
  return sub(digests, row * 24 - 23, row * 24)
end

local function change(name, record)
  local at = #changed
  changed[at + 1], changed[at + 2], own[name] = name, record, record
end

local function hold(row, name)
  change(name, digest_of(row) .. group .. place_of(row) .. BEHIND[byte(flags, row) % 2])
  held[#held + 1] = name
  return HELD
end

-- Verdict, and of a kept or lost key the fence of its last hold; of a kept one what it keeps.
local function claimed(row, name, record)
  local flag, held_by, state = byte(flags, row), sub(record, 25, 42), sub(record, 50, 50)
  local anew = flag >= 2
  if anew and state == '1' then
    redis.call('DEL', keys .. sub(record, 57))
  end
  if anew or number('>I6', record, 51) <= now then
    return hold(row, name)
  end
  if sub(record, 1, 24) ~= digest_of(row) then
    return REUSED
  end
  if state == '1' then
    return KEPT, held_by, sub(record, 57)
  end
  if state ~= '2' and sub(held_by, 1, 12) == group .. place_of(row) then
    if number('>I6', held_by, 13) > number('>I6', epoch) then
      return BUSY
    end
    return hold(row, name)
  end
  if state == '0' and number('>I6', record, 44) > now then
    return BUSY
  end
  if state == '2' or (state == '0' and sub(record, 43, 43) == '1' and flag % 2 == 1) then
    return hold(row, name)
  end
  if state == '0' then
    change(name, sub(record, 1, 49) .. '3' .. sub(record, 51))
  end
  return LOST, held_by
end

-- Which of the answer's further parts holds what is kept under the name; 0 for none.
local function number_of(kept)
  if kept and not numbers[kept] then
    numbers[kept] = #answer - 2
    answer[#answer + 1] = redis.call('GET', keys .. kept) or ''
  end
  return kept and numbers[kept] or 0
end

local names, verdicts = names_of(all_names), {}
for first = 1, count, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, count)
  local found = redis.call('HMGET', keys, unpack(names, first, last))
  for row = first, last do
    local name = names[row]
    local record = own[name] or found[row - first + 1]
    if record then
      local verdict, held_by, kept = claimed(row, name, record)
      verdicts[row] = verdict
      if held_by then
        told[#told + 1] = held_by .. pack('>I4', number_of(kept))
      end
    elseif room > 0 then
      room = room - 1
      verdicts[row] = hold(row, name)
    else
      verdicts[row] = FULL
    end
  end
end

for first = 1, #changed, 2 * AT_ONCE do
  redis.call('HSET', keys, unpack(changed, first, math.min(first + 2 * AT_ONCE - 1, #changed)))
end
for first = 1, #held, TOGETHER do
  look_at(table.concat(held, '', first, math.min(first + TOGETHER - 1, #held)), ends_ms)
end
local last = redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')
if last[2] then
  local last_ms = string.format('%.0f', tonumber(last[2]))
  redis.call('PEXPIREAT', keys, last_ms)
  redis.call('PEXPIREAT', ends, last_ms)
end
answer[1], answer[2] = table.concat(verdicts), table.concat(told)
return answer
