-- How all gates stand. KEYS: pairs of a gate's hash and its permits. Answers now, and of each the fields and the requests under way.
local states = {}
for at = 1, #KEYS, 2 do
  local fields = redis.call('HMGET', KEYS[at], 'tokens', 'refilled_at', 'blocked_until', 'open_until', 'day', 'used', 'rate', 'burst')
  table.insert(states, { fields, redis.call('ZCOUNT', KEYS[at + 1], string.format('(%.17g', now), '+inf') })
end
return { now, states }
