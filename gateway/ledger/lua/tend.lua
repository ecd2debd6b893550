-- Frees the slices of lost leases, and settles or expires the batch where that is due; what they left in doubt in one that
-- has ended is unknown.
-- KEYS  all eight of the batch (lua/batch.lua)
-- ARGV  1 seen
-- answer {'ok', hint, rescued: the worker of each lease that was lost, expired} | {'gone'} | {'behind', seq}
local known = refusal()
if known then
  return known
end
local before = batch.state
local rescued = rescue()
settle()
return {'ok', hint(), rescued, (batch.state == 'expired' and before ~= 'expired') and 1 or 0}
