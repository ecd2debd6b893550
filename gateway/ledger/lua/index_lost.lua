-- Remembers which worker was found lost last.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 the worker, '' to ask only
-- answer {the worker}, '' where none was
if ARGV[1] ~= '' then
  redis.call('SET', LOST, ARGV[1], 'PX', math.max(redis.call('PTTL', WHAT), 1000))
end
return {redis.call('GET', LOST) or ''}
