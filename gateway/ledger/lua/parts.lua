-- Reads parts, whole slices at a time.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 first slice  3 least operations
-- answer {'ok', slice, part, slice, part, ...} | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local answer, found, least = {'ok'}, 0, tonumber(ARGV[3])
for slice = tonumber(ARGV[2]), math.ceil(batch.total / batch.slice_size) - 1 do
  if found >= least then
    break
  end
  local facts = redis.call('HMGET', SLICES, 'p' .. slice, 'c' .. slice)
  for n = 1, tonumber(facts[1] or 0) do
    answer[#answer + 1] = slice
    answer[#answer + 1] = redis.call('HGET', PARTS, slice .. '.' .. n)
  end
  found = found + tonumber(facts[2] or 0)
end
return answer
