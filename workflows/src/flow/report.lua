-- Takes note of how a request ended. ARGV besides: 8 `success`, `failure`, `blocked` or nothing, 9 blocked for, 10 whether it keeps its
-- seat, 11 failures until the breaker opens, 12 its cool-down, 13 the longest one. Answers as acquire.lua, without a rank.
report(ARGV[8], number(9), ARGV[10] == '1', number(11), number(12), number(13))
save()
return { 0, now, now, gate.blocked_until, gate.open_until, gate.used, 0, 0 }
