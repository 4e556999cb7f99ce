-- Who came last to collectives that no rank leaves before all have entered, and what the others waited for it.
-- The last to come has the shortest duration. It need not be to blame: see `otel-netmon diagnose`.
WITH
  first_steps AS (SELECT DISTINCT trace_id FROM steps WHERE step <= 0 OR name IN ('setup', 'rank_setup')),
  parts AS (
    SELECT trace_id, `group`, operation, sequence, coalesce(rank, source_rank) AS who, group_size,
      coalesce(device_duration, (end - start) / 1e9) AS seconds
    FROM collectives
    WHERE error IS NULL AND state IS NULL AND NOT (algbw IS NULL AND collectives.size > 0)
    UNION ALL
    SELECT trace_id, `group`, operation, sequence, rank, group_size, seconds FROM calls_of_steps WHERE seconds IS NOT NULL),
  calls AS (
    SELECT trace_id, `group`, operation, sequence, who, any(group_size) AS size_of_group, min(seconds) AS seconds,
      count() AS times
    FROM parts
    WHERE operation IN {SYNCHRONISING} AND sequence IS NOT NULL AND trace_id NOT IN (SELECT trace_id FROM first_steps)
    GROUP BY trace_id, `group`, operation, sequence, who),
  matched AS (
    SELECT trace_id, argMin(who, (seconds, who)) AS last, sum(seconds) - count() * min(seconds) AS waited, count() AS ranks
    FROM calls
    GROUP BY trace_id, `group`, operation, sequence
    HAVING ranks = max(size_of_group) AND ranks > 1 AND max(times) = 1)
SELECT
  last AS rank,
  count() AS last_in,
  uniqExact(trace_id) AS in_steps,
  sum(waited / (ranks - 1)) AS caused_s,
  sum(waited) AS caused_rank_s
FROM matched
WHERE waited > 0
GROUP BY rank
ORDER BY caused_rank_s DESC, rank
