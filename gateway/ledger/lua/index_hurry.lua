-- Brings to now what may be leased or is due soonest: the server's clock stepped back, and nobody would look for as long.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 most batches of each kind
-- answer {'ok'}
for _, key in ipairs({LATER, DUE}) do
  for _, batch in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'LIMIT', 0, ARGV[1])) do
    redis.call('ZADD', key, now, batch)
  end
end
return {'ok'}
