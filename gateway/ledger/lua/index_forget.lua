-- Removes a batch that is gone, or a place without one.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 batch
-- answer {'ok'}
local batch = ARGV[1]
local what = known(batch)
if what then
  local accepted = string.format('%015.0f', what.accepted)
  not_ready(batch, what)
  redis.call('ZREM', OPEN, name(what.owner, batch))
  redis.call('ZREM', MINE, name(what.owner, accepted, batch))
  redis.call('ZREM', STATES, name(what.state, accepted, batch))
  redis.call('HDEL', WHAT, batch)
end
redis.call('ZREM', DUE, batch)
redis.call('ZREM', LATER, batch)
return {'ok'}
