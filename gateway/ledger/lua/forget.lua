-- Removes a batch in a final state with all that belongs to it. A mark stays for an hour, so that other replicas tell a
-- batch that was deleted from one that the store lost.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 due: 1 only where its time of keeping is up, 0 in any case
-- answer {'ok', hint} not removed | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
if not FINAL[batch.state] or (ARGV[2] == '1' and now < batch['until']) then
  return {'ok', hint()}
end
redis.call('DEL', unpack(KEYS))
redis.call('HSET', META, 'state', 'deleted', 'seq', batch.seq + 1)
redis.call('PEXPIRE', META, TOMBSTONE_MS)
return {'gone'}
