-- Claims keys of one owner, all in one step; the same claim again (its fence) answers the same.
-- KEYS  1 the owner's keys: a zset, name -> when the key ends, ms. Behind its name, in its slot, stands a hash for each:
--         d digest, s state (0 held, 1 kept, 2 failed, 3 lost), f fence, r repeatable, u until when it is held, ms,
--         o the sealed outcome
-- ARGV  1 hold ms  2 keep ms  3 most keys of the owner  4 the claims, 67 bytes each: name 24, digest 24, fence 18, and
--         1 where it is repeatable, plus 2 where it is anew
-- answer  1 the verdicts (gateway.replay.port.Verdict), a digit for each claim; then for each kept key its outcome, and
--         for each lost one the fence of its last hold, in their order
-- A fence is a holder, 12 bytes, and the epoch of its hold, 6 bytes, big-endian.
-- A key ends with its hash, by the server's clock.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = now + tonumber(ARGV[1])
local ends = until_ms + tonumber(ARGV[2])
local HELD, BUSY, REUSED, KEPT, LOST, FULL = 0, 1, 2, 3, 4, 5
local until_text, ends_text = string.format('%.0f', until_ms), string.format('%.0f', ends)

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local room = tonumber(ARGV[3]) - redis.call('ZCARD', KEYS[1])

local function hold(key, name, digest, fence, repeatable)
  redis.call('DEL', key)
  redis.call('HSET', key, 'd', digest, 's', '0', 'f', fence, 'r', repeatable and '1' or '0', 'u', until_text)
  redis.call('PEXPIREAT', key, ends_text)
  redis.call('ZADD', KEYS[1], ends_text, name)
  return HELD
end

local function claimed(key, name, digest, fence, flags)
  local repeatable, anew = flags == '1' or flags == '3', flags == '2' or flags == '3'
  local found = redis.call('HMGET', key, 'd', 's', 'f', 'r', 'u', 'o')
  if not found[1] then
    if room <= 0 then
      return FULL
    end
    room = room - 1
    return hold(key, name, digest, fence, repeatable)
  end
  local state, held_by = found[2], found[3]
  if anew then
    return hold(key, name, digest, fence, repeatable)
  end
  if found[1] ~= digest then
    return REUSED
  end
  if state == '1' then
    return KEPT, found[6]
  end
  if (state == '0' or state == '3') and string.sub(held_by, 1, 12) == string.sub(fence, 1, 12) then
    if struct.unpack('>I6', held_by, 13) > struct.unpack('>I6', fence, 13) then
      return BUSY
    end
    return hold(key, name, digest, fence, repeatable)
  end
  if state == '0' and tonumber(found[5]) > now then
    return BUSY
  end
  if state == '2' or (state == '0' and found[4] == '1' and repeatable) then
    return hold(key, name, digest, fence, repeatable)
  end
  if state == '0' then
    redis.call('HSET', key, 's', '3')
  end
  return LOST, held_by
end

local claims, verdicts, answer = ARGV[4], {}, {''}
for at = 1, #claims, 67 do
  local name = string.sub(claims, at, at + 23)
  local verdict, kept = claimed(KEYS[1] .. name, name, string.sub(claims, at + 24, at + 47),
    string.sub(claims, at + 48, at + 65), string.sub(claims, at + 66, at + 66))
  verdicts[#verdicts + 1] = verdict
  if kept then
    answer[#answer + 1] = kept
  end
end
answer[1] = table.concat(verdicts)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last[2])))
end
return answer
