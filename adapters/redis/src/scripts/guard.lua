-- Begins every script that writes. Redis does not roll back, so that whatever could fail is tried
-- before the first write: whether this user may run each command, and whether what stands under
-- the two keys is ours. Memory, disk, replicas and the role of the server are asked once, when a
-- script begins (its flags), and not again after its first write.
--
-- KEYS: the index (a sorted set of all keys, every score 0), the values (a hash), the channel.
local index, values, channel = KEYS[1], KEYS[2], KEYS[3]

if not (redis.acl_check_cmd('HSET', values, '', '') and redis.acl_check_cmd('HDEL', values, '')
    and redis.acl_check_cmd('ZADD', index, '0', '') and redis.acl_check_cmd('ZREM', index, '')
    and redis.acl_check_cmd('SPUBLISH', channel, '')) then
  return redis.error_reply('NOPERM this user must be allowed the commands HSET, HDEL, ZADD, ZREM and SPUBLISH')
end
redis.call('ZCARD', index)
redis.call('HLEN', values)
