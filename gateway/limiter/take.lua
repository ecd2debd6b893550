-- Take what a batch costs of several buckets, all or nothing: the arithmetic of gateway/limiter/bucket.py in whole
-- numbers that a double holds exactly. A level is `whole` tokens and `rest` units, 0 <= rest < per; below zero is a debt.
--
-- KEYS[1]    where this take's answer is remembered, so that a repeated call takes nothing
-- KEYS[2..]  a hash for each bucket: w whole tokens, r rest, t microseconds of the server's clock
-- ARGV[1]    numbers with a space between them: the time in microseconds, "-" for the server's; how long an answer is
--            remembered, in milliseconds, 0 to look only and take nothing; the longest wait in microseconds; then for each
--            bucket six: tokens, per, burst, mode (0 rejects, 1 partial, 2 waits), the cost of all operations, how many
--            runs of equal costs follow; and the runs, two numbers each: how many operations, the cost of each
-- Answers    a flat array: the time, then whole and rest of each bucket before the take, refilled

local remembered = redis.call('GET', KEYS[1])
if remembered then return cjson.decode(remembered) end

local next_word = string.gmatch(ARGV[1], '%S+')
local function number()
  return tonumber(next_word())
end

local now, remembered_ms, wait = number(), number(), number()
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local buckets = {}
for place = 2, #KEYS do
  local bucket = {
    key = KEYS[place], tokens = number(), per = number(), burst = number(), mode = number(), cost = number(), runs = {},
  }
  for run = 1, number() do
    bucket.runs[run] = { number(), number() }
  end
  local held = redis.call('HMGET', bucket.key, 'w', 'r', 't')
  if held[1] then
    bucket.whole, bucket.rest = tonumber(held[1]), tonumber(held[2])
    local passed = math.max(0, now - tonumber(held[3]))
    local turns, left = math.floor(passed / bucket.per), passed % bucket.per
    local units = bucket.rest + left * bucket.tokens
    bucket.whole = bucket.whole + turns * bucket.tokens + math.floor(units / bucket.per)
    bucket.rest = units % bucket.per
    bucket.time = math.max(now, tonumber(held[3]))
  end
  if not held[1] then bucket.whole, bucket.time = bucket.burst, now end
  if bucket.whole >= bucket.burst then bucket.whole, bucket.rest = bucket.burst, 0 end
  buckets[#buckets + 1] = bucket
end

local answer = { string.format('%.0f', now) }
for _, bucket in ipairs(buckets) do
  answer[#answer + 1] = string.format('%.0f', bucket.whole)
  answer[#answer + 1] = string.format('%.0f', bucket.rest)
end
if remembered_ms == 0 then return answer end

-- How many operations, from the first on, the partial buckets can pay.
local count, all = nil, true
for _, bucket in ipairs(buckets) do
  if bucket.whole < bucket.cost then all = false end
  if bucket.mode == 1 and bucket.whole < bucket.cost then
    local spent, paid = 0, 0
    for _, run in ipairs(bucket.runs) do
      local fit = run[1]
      if run[2] > 0 then fit = math.min(run[1], math.max(0, math.floor((bucket.whole - spent) / run[2]))) end
      if spent > bucket.whole then fit = 0 end
      paid, spent = paid + fit, spent + fit * run[2]
      if fit < run[1] then break end
    end
    count = math.min(count or paid, paid)
  end
end

-- What those cost of each bucket, and whether every bucket lets them pass.
local granted = true
for _, bucket in ipairs(buckets) do
  bucket.due = bucket.cost
  if count then
    bucket.due = 0
    local left = count
    for _, run in ipairs(bucket.runs) do
      local taken = math.min(left, run[1])
      bucket.due, left = bucket.due + taken * run[2], left - taken
    end
  end
  if not all and bucket.due > 0 and bucket.whole < bucket.due then
    -- the wait is ceil(missing / tokens) microseconds, missing = (due - whole) * per - rest; compared without dividing
    local allowed = bucket.mode == 2 and wait or 0
    local turns, left = math.floor(allowed / bucket.per), allowed % bucket.per
    local units = bucket.rest + left * bucket.tokens
    local reach = bucket.whole + turns * bucket.tokens + math.floor(units / bucket.per)
    if reach < bucket.due then granted = false end
  end
end

if granted then
  for _, bucket in ipairs(buckets) do
    local whole = bucket.whole - bucket.due
    local full_ms = (bucket.burst - whole) / bucket.tokens * bucket.per / 1000
    redis.call('HSET', bucket.key, 'w', string.format('%.0f', whole), 'r', string.format('%.0f', bucket.rest),
      't', string.format('%.0f', bucket.time))
    redis.call('PEXPIRE', bucket.key, string.format('%.0f', math.ceil(full_ms) + 1000))
  end
end
redis.call('SET', KEYS[1], cjson.encode(answer), 'PX', remembered_ms)
return answer
