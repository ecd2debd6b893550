-- How much there is.
-- KEYS  all eleven of the index (lua/index.lua)
-- ARGV  states
-- answer {batches in the state, ..., when the longest waiting batch was accepted ms, 0 for none}
local answer = {}
for i, state in ipairs(ARGV) do
  answer[i] = count_of(STATES, state)
end
local first = first_of(STATES, 'accepted')
answer[#answer + 1] = first and tonumber(string.match(first, '^[^%z]*%z([^%z]*)')) or 0
return answer
