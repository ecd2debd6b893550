-- Brings the index up to what the batch's own slot has answered; an older answer changes nothing.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 batch  2 seq  3 owner  4 accepted ms  5 priority  6 operations of a slice  7 state
--       8 ready at ms, 0 now, -1 not at all  9 due at ms  10 gone at ms  11 operations charged and not taken
-- answer {'ok'}
local batch = ARGV[1]
local before = known(batch)
if before and tonumber(ARGV[11]) > 0 and redis.call('ZSCORE', TURNS, before.owner) then
  redis.call('ZINCRBY', TURNS, -tonumber(ARGV[11]), before.owner)
end
local what = {
  seq = tonumber(ARGV[2]), owner = ARGV[3], accepted = tonumber(ARGV[4]), operations = tonumber(ARGV[6]), state = ARGV[7],
  order = string.format('%d%015.0f', 9 - tonumber(ARGV[5]), tonumber(ARGV[4])),
}
if before and before.seq > what.seq then
  return {'ok'}
end
local accepted = string.format('%015.0f', what.accepted)
if before and before.state ~= what.state then
  redis.call('ZREM', STATES, name(before.state, accepted, batch))
end
remember(batch, what)
redis.call('ZADD', STATES, 0, name(what.state, accepted, batch))
redis.call('ZADD', MINE, 0, name(what.owner, accepted, batch))
redis.call('ZADD', DUE, ARGV[9], batch)
local ready_at = tonumber(ARGV[8])
if ready_at < 0 or ready_at > now then
  not_ready(batch, what)
  if ready_at > now then
    redis.call('ZADD', LATER, ready_at, batch)
  end
else
  ready(batch, what)
end
if FINAL[what.state] then
  redis.call('ZREM', OPEN, name(what.owner, batch))
else
  redis.call('ZADD', OPEN, 0, name(what.owner, batch))
end
keep(tonumber(ARGV[10]))
return {'ok'}
