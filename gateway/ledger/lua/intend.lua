-- Remembers that operations may have been sent, before the first byte of them leaves.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 slice  3 epoch  4 indexes, by comma
-- answer {'ok', seq} | {'lost'} an older epoch, or the batch has ended | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
if FINAL[batch.state] or redis.call('HGET', SLICES, 'e' .. ARGV[2]) ~= ARGV[3] then
  return {'lost'}
end
if has_any(bits(INTENDED, numbers(ARGV[4]), 'SET'), 0) then
  keep(INTENDED)
  changed()
end
return {'ok', batch.seq}
