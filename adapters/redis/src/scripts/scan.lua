-- One page: the keys of a range with their values, as far as limit and byte budget reach, and one
-- more object if there is one, for who reads the page cuts it.
--
-- KEYS: the index, the values.
-- ARGV: the command that lists the range and its two ends, in that command's order; the limit; the
-- byte budget; '1' if values are left out.
--
-- Answers keys and values in turn; the value is nil where there should be one and is none.
local list, from, to = ARGV[1], ARGV[2], ARGV[3]
local limit, budget, bare = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'

local page, count, bytes = {}, 0, 0
while true do
  local step = math.min(limit - count + 1, 256)
  local keys = redis.call(list, KEYS[1], from, to, 'LIMIT', 0, step)
  for _, key in ipairs(keys) do
    local value = ''
    -- What is one too many needs no value.
    if not bare and count < limit then
      value = redis.call('HGET', KEYS[2], key)
    end
    page[#page + 1] = key
    page[#page + 1] = value
    bytes = bytes + #key + #(value or '')
    if count == limit or (count > 0 and bytes > budget) then
      return page
    end
    count = count + 1
  end
  if #keys < step then
    return page
  end
  from = '(' .. keys[#keys]
end
