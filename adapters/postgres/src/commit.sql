
DECLARE
    equal int;
    taken int;
    standing int;
    written int;
    failed int[];
BEGIN
    -- Existing rows are locked in the order of their keys, and compared as they are once locked.
    SELECT count(*) FILTER (WHERE l.operation IN ('k', 'r', 'x') AND l.value = l.before),
           count(*) FILTER (WHERE l.operation = 'c'),
           count(*) FILTER (WHERE l.operation = 'p')
        INTO equal, taken, standing
        FROM (
            SELECT c.operation, c.before, t.value
            FROM unnest(operations, keys, befores) AS c (operation, key, before)
            JOIN {table} AS t ON t.key = c.key
            ORDER BY t.key
            FOR UPDATE OF t
        ) AS l;
    IF equal < comparing OR taken > 0 THEN
        -- All that fail, as they stand at one moment.
        SELECT array_agg(c.place::int) INTO failed
            FROM unnest(operations, keys, befores)
                WITH ORDINALITY AS c (operation, key, before, place)
            LEFT JOIN {table} AS t ON t.key = c.key
            WHERE CASE
                WHEN c.operation IN ('k', 'r', 'x') THEN t.value IS DISTINCT FROM c.before
                WHEN c.operation = 'c' THEN t.key IS NOT NULL
                ELSE false
            END;
        IF failed IS NULL THEN
            RAISE 'a key was removed and put again meanwhile' USING ERRCODE = '40001';
        END IF;
        RETURN failed;
    END IF;
    IF putting > standing THEN
        INSERT INTO {table} (key, value)
            SELECT c.key, c.after
            FROM unnest(operations, keys, afters) AS c (operation, key, after)
            WHERE c.operation = 'c' OR (
                c.operation = 'p'
                AND NOT EXISTS (SELECT FROM {table} AS t WHERE t.key = c.key)
            )
            ORDER BY c.key
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> putting - standing THEN
            RAISE 'a key was put meanwhile' USING ERRCODE = '40001';
        END IF;
    END IF;
    IF replacing > 0 OR standing > 0 THEN
        -- What was just inserted has its value.
        UPDATE {table} AS t SET value = c.after
            FROM unnest(operations, keys, afters) AS c (operation, key, after)
            WHERE c.operation IN ('r', 'p') AND t.key = c.key AND t.value <> c.after;
    END IF;
    IF removing > 0 THEN
        DELETE FROM {table} AS t
            USING unnest(operations, keys) AS c (operation, key)
            WHERE c.operation IN ('d', 'x') AND t.key = c.key;
    END IF;
    RETURN '{}';
END
