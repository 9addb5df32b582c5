-- Asked by whoever waited for its start: whether it may still go. If not, its seat is free again. Answers as acquire.lua, without a rank.
turn_to_now()
local code, value = closed()
if code then
  gate.used = math.max(gate.used - 1, 0)
  report('', 0, false, 0, 0, 0)
  code, value = refuse(code, value, true)
end
save()
return { code or 0, value or now, now, gate.blocked_until, gate.open_until, gate.used, 0, 0 }
