-- Batches that the sweep has to look at; they are put off meanwhile, so that replicas do not look at the same ones.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 most  2 put off by, ms
-- answer {batch, ...}
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, batch in ipairs(due) do
  redis.call('ZADD', DUE, now + tonumber(ARGV[2]), batch)
end
return due
