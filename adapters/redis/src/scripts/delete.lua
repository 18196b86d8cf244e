-- Removes the first keys of a range, few enough that nobody waits long for it.
--
-- ARGV: the range in the terms of ZRANGEBYLEX; how many keys, less than Lua's stack holds.
-- Answers how many there were.
local keys = redis.call('ZRANGEBYLEX', index, ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
if #keys > 0 then
  redis.call('HDEL', values, unpack(keys))
  redis.call('ZREM', index, unpack(keys))
end
return #keys
