-- Admits a request, or says when to ask again. KEYS besides: 3 the live processes, 4 the known keys.
-- ARGV besides: 8 patience, 9 whether it polls, 10 process, 11 its life, 12 the key's name, 13 blocked until, as the process knows it,
-- 14 requests that it started while Redis was away, 15 for how long others may still do so, 16 whether it has been here before,
-- 17 how many seats it has, if Redis must learn that anew, else -1; then each seat's permit and end.
-- Answers: 0 and the start, or why not and the wait; then now, blocked until, open until, used, the process' rank, of how many.
local new = gate.refilled_at == 0
turn_to_now()
gate.blocked_until = math.max(gate.blocked_until, number(13))
gate.used = gate.used + number(14)
if number(17) >= 0 then
  local own = ARGV[10] .. '-'
  for _, permit in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if string.sub(permit, 1, #own) == own then redis.call('ZREM', KEYS[2], permit) end
  end
  for at = 18, 16 + 2 * number(17), 2 do redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at]) end
end
-- Redis has forgotten this gate: what it had admitted is unknown, so it starts empty.
if new and ARGV[16] == '1' then gate.tokens = math.min(gate.tokens, 0) end
-- Redis has just come back. Some processes do not know it yet and still use their local share: nothing starts until they do.
if number(15) > 0 and limit.rate >= 0 then
  gate.tokens = math.min(gate.tokens, -limit.rate * number(15) / 1e6)
end

local function ask()
  local why, until_when = closed()
  if why then return refuse(why, until_when, true) end
  local probes = limit.breaks and gate.open_until > 0
  if probes and gate.probe ~= '' and gate.probe ~= id then
    local ends = redis.call('ZSCORE', KEYS[2], gate.probe)
    if ends then return refuse(BREAKER_OPEN, math.min(tonumber(ends), now + SOON), true) end
  end
  if limit.budget >= 0 and gate.used >= limit.budget then
    return refuse(BUDGET_SPENT, (gate.day + 1) * DAY, true)
  end
  local start = now
  if limit.rate >= 0 and gate.tokens < 1 then start = now + math.ceil((1 - gate.tokens) / limit.rate * 1e6) end
  local full = limit.seats >= 0 and redis.call('ZCARD', KEYS[2]) >= limit.seats
  if full and not redis.call('ZSCORE', KEYS[2], id) then
    local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
    return refuse(BUSY, math.max(math.min(tonumber(first[2] or exact(now)), now + SOON), start), ARGV[9] ~= '1')
  end
  if start - now > number(8) then return refuse(RATE, start, true) end
  if limit.rate >= 0 then gate.tokens = gate.tokens - 1 end
  gate.used = gate.used + 1
  redis.call('ZADD', KEYS[2], exact(start + limit.life), id)
  if probes then gate.probe = id end
  return 0, start
end

local code, value = ask()
save()
redis.call('ZADD', KEYS[4], exact(now), ARGV[12])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', exact(now - KEPT_S * 1e6))
redis.call('ZADD', KEYS[3], exact(now + number(11)), ARGV[10])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', exact(now))
local members = redis.call('ZRANGE', KEYS[3], 0, -1)
local rank = 0
for _, member in ipairs(members) do
  if member < ARGV[10] then rank = rank + 1 end
end
return { code, value, now, gate.blocked_until, gate.open_until, gate.used, rank, #members }
