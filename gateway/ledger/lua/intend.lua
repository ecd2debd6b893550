-- Remembers that operations may have been sent, before the first byte of them leaves.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 slice  3 epoch  4 mask of the operations
-- answer {'ok', seq} | {'lost'} an older epoch, a lease that was found lost, or the batch has ended | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local mine = redis.call('HGET', SLICES, 'e' .. ARGV[2]) == ARGV[3]
if FINAL[batch.state] or not mine or not redis.call('ZSCORE', LEASED, field(tonumber(ARGV[2]))) then
  return {'lost'}
end
if mark(INTENDED, ARGV[4]) then
  keep(INTENDED)
  changed()
end
return {'ok', batch.seq}
