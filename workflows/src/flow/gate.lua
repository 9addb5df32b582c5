-- The gate of one key in Redis: decides what gate.rs decides, number for number. The line that sets `now` stands above this file, the
-- operation (acquire, confirm, report) below it. KEYS: 1 the gate's hash, 2 its permits, scored by when they count as lost.
-- ARGV: 1 permit, 2 rate, 3 burst, 4 seats, 5 budget, 6 permit life, 7 whether it breaks; -1 is no limit; times in microseconds.
local DAY, SOON, LINE = 86400000000, 1000000, 120000000
local RATE, BUSY, BLOCKED, BREAKER_OPEN, BUDGET_SPENT = 1, 2, 3, 4, 5
local KEPT_S = 3 * 86400
local FIELDS = { 'tokens', 'refilled_at', 'blocked_until', 'failures', 'trips', 'open_until', 'day', 'used', 'line' }

local function number(at) return tonumber(ARGV[at]) end
local function exact(value) return string.format('%.17g', value) end

local id = ARGV[1]
local limit = {
  rate = number(2), burst = math.max(number(3), 1), seats = number(4), budget = number(5), life = number(6), breaks = number(7) == 1,
}

local gate = {}
local held = redis.call('HMGET', KEYS[1], unpack(FIELDS))
for at, field in ipairs(FIELDS) do gate[field] = tonumber(held[at] or '0') end
gate.probe = redis.call('HGET', KEYS[1], 'probe') or ''

local function save()
  local flat = { 'probe', gate.probe, 'rate', ARGV[2], 'burst', ARGV[3] }
  for _, field in ipairs(FIELDS) do
    table.insert(flat, field)
    table.insert(flat, exact(gate[field]))
  end
  redis.call('HSET', KEYS[1], unpack(flat))
  redis.call('EXPIRE', KEYS[1], KEPT_S)
  redis.call('EXPIRE', KEYS[2], KEPT_S)
end

local function turn_to_now()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', exact(now))
  if limit.rate >= 0 and gate.refilled_at > 0 then
    gate.tokens = math.min(limit.burst, gate.tokens + math.max(now - gate.refilled_at, 0) * limit.rate / 1e6)
  else
    gate.tokens = limit.burst
  end
  gate.refilled_at = now
  local day = math.floor(now / DAY)
  if gate.day ~= day then
    gate.day, gate.used = day, 0
  end
end

-- Why nobody at all may start, and until when.
local function closed()
  if gate.blocked_until > now then return BLOCKED, gate.blocked_until end
  if limit.breaks and gate.open_until > now and gate.probe ~= id then return BREAKER_OPEN, gate.open_until end
end

local function refuse(why, base, places)
  if not places then return why, base - now end
  local step = 100000
  if limit.rate >= 0 then step = math.ceil(0.9 * 1e6 / limit.rate) end
  gate.line = gate.line + step
  if gate.line < base or gate.line > base + LINE then gate.line = base end
  return why, gate.line - now
end

local function report(verdict, blocked_for, keeps, failures, cool_down, cool_down_cap)
  if not keeps then redis.call('ZREM', KEYS[2], id) end
  local probed = gate.probe == id
  local counts = probed or gate.open_until == 0
  if probed then gate.probe = '' end
  if verdict == 'success' and counts then
    gate.failures, gate.trips, gate.open_until = 0, 0, 0
  elseif verdict == 'failure' and counts then
    gate.failures = gate.failures + 1
    if limit.breaks and (probed or gate.failures >= failures) then
      gate.open_until = now + math.min(cool_down * 2 ^ math.min(gate.trips, 20), cool_down_cap)
      gate.failures, gate.trips = 0, gate.trips + 1
    end
  elseif verdict == 'blocked' then
    gate.blocked_until = math.max(gate.blocked_until, now + blocked_for)
  end
end
