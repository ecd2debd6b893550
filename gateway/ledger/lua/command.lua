-- Does what the caller asks, where the life of the batch allows it.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen  2 cancel, pause, resume or break
-- answer {'ok', hint} whether or not it was done | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local command = ARGV[2]
if command == 'cancel' then
  advance('cancel')
  rescue()
  if batch.state == 'cancelling' then
    settle()
  end
elseif command == 'break' then
  advance('break')
elseif running() then
  local paused = command == 'pause' and '1' or '0'
  if batch.paused ~= paused then
    batch.paused = paused
    redis.call('HSET', META, 'paused', paused)
    changed()
  end
end
return {'ok', hint()}
