-- Makes all changes of a commit, or none, and tells the channel which keys were put.
--
-- ARGV: for each change two bytes, its key, then the value expected and the value put where there
-- are such. The first byte is what must be there: '*' anything, '-' nothing, '=' this value. The
-- second is what is there afterwards: '+' this value, '-' nothing, '=' the same (a check).
--
-- Answers the positions, from 0, of the changes whose expectation does not hold.
local last = #ARGV

local failed = {}
local at, position = 1, 0
while at <= last do
  local what, key = ARGV[at], ARGV[at + 1]
  local before, after = string.sub(what, 1, 1), string.sub(what, 2, 2)
  at = at + 2
  if before ~= '*' then
    local stored = redis.call('HGET', values, key)
    local holds
    if before == '=' then
      holds = stored == ARGV[at]
      at = at + 1
    else
      holds = not stored
    end
    if not holds then
      failed[#failed + 1] = position
    end
  end
  if after == '+' then
    at = at + 1
  end
  position = position + 1
end
if #failed > 0 then
  return failed
end

local put, size = {}, 0
at = 1
while at <= last do
  local what, key = ARGV[at], ARGV[at + 1]
  local after = string.sub(what, 2, 2)
  at = at + 2
  if string.sub(what, 1, 1) == '=' then
    at = at + 1
  end
  if after == '+' then
    if redis.call('HSET', values, key, ARGV[at]) == 1 then
      redis.call('ZADD', index, 0, key)
    end
    at = at + 1
    put[#put + 1] = #key .. ':' .. key
    size = size + #key
  elseif after == '-' then
    if redis.call('HDEL', values, key) == 1 then
      redis.call('ZREM', index, key)
    end
  end
end
if #put > 0 then
  -- The empty message stands for any key. No listener wants to read a large one.
  redis.call('SPUBLISH', channel, size <= 65536 and table.concat(put) or '')
end
return failed
