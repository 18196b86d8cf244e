-- What stands under our keys, seen at one time.
--
-- KEYS: the index, the values.
-- Answers the type of each, how many objects each holds, and how many keys of the index have
-- another score than 0.
local index, values = redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[2]).ok
local keys, others, objects = 0, 0, 0
if index == 'zset' then
  keys = redis.call('ZCARD', KEYS[1])
  others = keys - redis.call('ZCOUNT', KEYS[1], 0, 0)
end
if values == 'hash' then
  objects = redis.call('HLEN', KEYS[2])
end
return {index, values, keys, objects, others}
