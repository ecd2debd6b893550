-- Takes a place among the owner's unfinished batches, before the batch is put on record. A place without a batch is
-- given back by the sweep.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 batch  2 owner  3 most  4 how long the place is kept, ms
-- answer {'ok'} also where the batch is known | {'full', unfinished}
local batch, owner = ARGV[1], ARGV[2]
if known(batch) then
  return {'ok'}
end
local unfinished = count_of(OPEN, owner)
if unfinished >= tonumber(ARGV[3]) then
  return {'full', unfinished}
end
remember(batch, {seq = 0, owner = owner, accepted = 0, order = '', operations = 0, state = ''})
redis.call('ZADD', OPEN, 0, name(owner, batch))
redis.call('ZADD', DUE, now + tonumber(ARGV[4]), batch)
keep(now + tonumber(ARGV[4]))
return {'ok'}
