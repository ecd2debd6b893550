-- Claims keys of one owner, all in one step; the same claim again (its fence) answers the same.
-- KEYS  1 the owner's keys: a zset, name -> when the key ends, ms. Behind its name, in its slot, stand
--         a string for each key: digest 24, fence 18, state 1 (0 held, 1 kept, 2 failed, 3 lost), 1 where it is
--         repeatable else 0, until when it is held 15, ms; of a kept one the name of what it keeps 20
--         a string for each of these names: what keys keep, one or many together
-- ARGV  1 numbers with a space between them: hold ms, keep ms, most keys of the owner; then of the claims  2 their group
--         8, their epoch 6, and their places, 4 each  3 names, 24 each  4 digests, 24 each  5 flags, a byte each:
--         1 repeatable, 2 anew, 3 both
-- answer  1 the verdicts (gateway.replay.port.Verdict), a digit for each claim  2 of each kept or lost key the fence of
--         its last hold, 18, and which of the following it keeps, 4, from 0  3.. what is kept, each once
-- A fence is a group, 8 bytes, a place in it, 4, and the epoch of its hold, 6; all numbers are big-endian.
-- Strings end by themselves, by the server's clock.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local hold_ms, keep_ms, keys_max = string.match(ARGV[1], '(%d+) (%d+) (%d+)')
local until_ms = now + tonumber(hold_ms)
local until_text, ends = string.format('%015.0f', until_ms), string.format('%.0f', until_ms + tonumber(keep_ms))
local HELD, BUSY, REUSED, KEPT, LOST, FULL = 0, 1, 2, 3, 4, 5
local sub = string.sub

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local room = tonumber(keys_max) - redis.call('ZCARD', KEYS[1])
local scores, verdicts, told, answer, numbers = {}, {}, {}, {}, {}

local function hold(key, name, digest, fence, repeatable)
  redis.call('SET', key, digest .. fence .. '0' .. (repeatable and '1' or '0') .. until_text, 'PXAT', ends)
  scores[#scores + 1], scores[#scores + 2] = ends, name
  return HELD
end

-- Verdict, and of a kept or lost key the fence of its last hold; of a kept one what it keeps.
local function claimed(key, name, digest, fence, flags)
  local repeatable, anew = flags % 2 == 1, flags >= 2
  local found = redis.call('GET', key)
  if not found then
    if room <= 0 then
      return FULL
    end
    room = room - 1
    return hold(key, name, digest, fence, repeatable)
  end
  local held_by, state = sub(found, 25, 42), sub(found, 43, 43)
  if anew then
    if state == '1' then
      redis.call('DEL', KEYS[1] .. sub(found, 60))
    end
    return hold(key, name, digest, fence, repeatable)
  end
  if sub(found, 1, 24) ~= digest then
    return REUSED
  end
  if state == '1' then
    return KEPT, held_by, sub(found, 60)
  end
  if (state == '0' or state == '3') and sub(held_by, 1, 12) == sub(fence, 1, 12) then
    if struct.unpack('>I6', held_by, 13) > struct.unpack('>I6', fence, 13) then
      return BUSY
    end
    return hold(key, name, digest, fence, repeatable)
  end
  if state == '0' and tonumber(sub(found, 45, 59)) > now then
    return BUSY
  end
  if state == '2' or (state == '0' and sub(found, 44, 44) == '1' and repeatable) then
    return hold(key, name, digest, fence, repeatable)
  end
  if state == '0' then
    redis.call('SETRANGE', key, 42, '3')
  end
  return LOST, held_by
end

-- Which of the answer's further parts holds what is kept under the name; 0 for none.
local function number_of(kept)
  if kept and not numbers[kept] then
    answer[#answer + 1] = redis.call('GET', KEYS[1] .. kept) or ''
    numbers[kept] = #answer
  end
  return kept and numbers[kept] - 1 or 0
end

local holders, names, digests, flags = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local group, epoch = sub(holders, 1, 8), sub(holders, 9, 14)
for row = 0, #flags - 1 do
  local name = sub(names, row * 24 + 1, row * 24 + 24)
  local fence = group .. sub(holders, row * 4 + 15, row * 4 + 18) .. epoch
  local verdict, held_by, kept = claimed(KEYS[1] .. name, name, sub(digests, row * 24 + 1, row * 24 + 24), fence,
    string.byte(flags, row + 1))
  verdicts[row + 1] = verdict
  if held_by then
    told[#told + 1] = held_by .. struct.pack('>I4', number_of(kept))
  end
end
for first = 1, #scores, 2000 do
  redis.call('ZADD', KEYS[1], unpack(scores, first, math.min(first + 1999, #scores)))
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last[2])))
end
return { table.concat(verdicts), table.concat(told), unpack(answer) }
