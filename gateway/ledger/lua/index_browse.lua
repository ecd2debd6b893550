-- An owner's batches, newest first.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  1 owner  2 most  3 behind this batch, '' from the newest  4 only in this state, '' in any
-- answer {batch, ...}
local owner, most = ARGV[1], tonumber(ARGV[2])
local top = '(' .. owner .. '\1'
if ARGV[3] ~= '' then
  local what = known(ARGV[3])
  if not what or what.owner ~= owner then
    return {}
  end
  top = '(' .. name(owner, string.format('%015.0f', what.accepted), ARGV[3])
end
local found = {}
while #found < most do
  local chunk = redis.call('ZREVRANGEBYLEX', MINE, top, '[' .. owner .. '\0', 'LIMIT', 0, 100)
  if #chunk == 0 then
    break
  end
  for _, entry in ipairs(chunk) do
    local batch = string.match(entry, '([^%z]*)$')
    local what = ARGV[4] == '' or known(batch)
    if #found < most and (what == true or (what and what.state == ARGV[4])) then
      found[#found + 1] = batch
    end
    top = '(' .. entry
  end
end
return found
