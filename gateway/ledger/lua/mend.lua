-- The store went back in time: puts the caller's acknowledged intents on record again, so that what was sent is in doubt
-- and not sent twice, and raises the sequence to what the caller has seen.
-- In a batch that has ended meanwhile they are unknown.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 mask of the operations that the caller intended
-- answer {'ok', hint} | {'gone'} the batch itself is lost
load()
if not batch.state or batch.state == 'deleted' then
  return {'gone'}
end
if batch.state ~= 'completed' then
  mark(INTENDED, ARGV[2])
  keep(INTENDED)
end
batch.seq = math.max(batch.seq, tonumber(ARGV[1]))
redis.call('HSET', META, 'seq', batch.seq)
changed()
if FINAL[batch.state] then
  settle()
end
return {'ok', hint()}
