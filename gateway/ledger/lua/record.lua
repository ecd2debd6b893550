-- Puts outcomes on record, takes intents back, lets go of a slice; the last slice settles its batch.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 slice  3 epoch  4 header, '' for no part  5 mask of its operations  6 sealed outcomes  7 ends 0/1
--       8 again after ms, -1 at once  9 retracted indexes, by comma  10 tries, -1 as they are
-- answer {'ok', seq, hint}, hint only where a slice became free or the batch ended
--       | {'lost'} an older epoch, the batch has ended, or an index has another outcome | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local slice, header, mask, sealed = tonumber(ARGV[2]), ARGV[4], ARGV[5], ARGV[6]

local function on_record()
  for n = 1, tonumber(redis.call('HGET', SLICES, 'p' .. slice) or 0) do
    local part = redis.call('HGET', PARTS, slice .. '.' .. n)
    local head = string.find(part, '\n', 1, true)
    if string.sub(part, head + 1) == sealed then
      return true
    end
  end
  return false
end

local again = compare(DONE, mask)
if again and not on_record() then
  return {'lost'}
end
local mine = redis.call('HGET', SLICES, 'e' .. slice) == ARGV[3]
local held = tonumber(redis.call('ZSCORE', LEASED, field(slice)) or 0)
-- A batch that was broken off while it was leased still hears what its workers had sent.
local too_late = FINAL[batch.state] and held == 0
if too_late or not mine then
  if again or (mine and header == '') then
    return {'ok', batch.seq, hint()}
  end
  return {'lost'}
end
if header ~= '' and not again then
  put(slice, header, mask, sealed)
end
for index in string.gmatch(ARGV[9], '%d+') do
  redis.call('SETBIT', INTENDED, index, 0)
  keep(INTENDED)
end
if tonumber(ARGV[10]) >= 0 then
  redis.call('HSET', SLICES, 't' .. slice, ARGV[10])
end
changed()
if ARGV[7] ~= '1' then
  return {'ok', batch.seq}
end
if is_done(slice) or FINAL[batch.state] then
  redis.call('ZREM', LEASED, field(slice))
  redis.call('ZREM', FREE, field(slice))
elseif held > 0 then
  free(slice, tonumber(ARGV[8]) > 0 and now + tonumber(ARGV[8]) or 0)
end
settle()
if FINAL[batch.state] or redis.call('ZSCORE', FREE, field(slice)) then
  return {'ok', batch.seq, hint()}
end
return {'ok', batch.seq}
