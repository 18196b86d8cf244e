
DECLARE
    equal int;
    taken int;
    written int;
    failed int[];
BEGIN
    -- Existing rows are locked in the order of their keys, and compared as they are once locked.
    SELECT count(*) FILTER (WHERE l.operation IN ('k', 'r', 'x') AND l.value = l.before),
           count(*) FILTER (WHERE l.operation = 'c')
        INTO equal, taken
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
    IF putting > 0 THEN
        INSERT INTO {table} AS t (key, value)
            SELECT c.key, c.after
            FROM unnest(operations, keys, afters) AS c (operation, key, after)
            WHERE c.operation IN ('c', 'p')
            ORDER BY c.key
        ON CONFLICT (key) DO UPDATE SET value = excluded.value
            WHERE NOT EXISTS (
                SELECT FROM unnest(operations, keys) AS c (operation, key)
                WHERE c.operation = 'c' AND c.key = excluded.key
            );
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written < putting THEN
            RAISE 'a key was put meanwhile' USING ERRCODE = '40001';
        END IF;
    END IF;
    IF replacing > 0 THEN
        UPDATE {table} AS t SET value = c.after
            FROM unnest(operations, keys, afters) AS c (operation, key, after)
            WHERE c.operation = 'r' AND t.key = c.key;
    END IF;
    IF removing > 0 THEN
        DELETE FROM {table} AS t
            USING unnest(operations, keys) AS c (operation, key)
            WHERE c.operation IN ('d', 'x') AND t.key = c.key;
    END IF;
    RETURN '{}';
END
