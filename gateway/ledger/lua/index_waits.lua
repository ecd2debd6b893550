-- Whether new work may be there.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  none
-- answer 1 or 0
local later = redis.call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
return (redis.call('ZCARD', TURNS) > 0 or (later[2] and tonumber(later[2]) <= now)) and 1 or 0
