-- Who came last to collectives that no rank leaves before all have entered, and what the others waited for it: the time
-- in at least one of those that were in flight together. The last to come has the shortest duration. It need not be to
-- blame: see `otel-netmon diagnose`.
WITH
  first_steps AS (SELECT DISTINCT trace_id FROM steps WHERE step <= 0 OR name IN ('setup', 'rank_setup')),
  parts AS (
    SELECT trace_id, `group`, operation, sequence, coalesce(rank, source_rank) AS who, group_size,
      if(device_duration IS NULL, start, NULL) AS began, coalesce(device_duration, (end - start) / 1e9) AS seconds
    FROM collectives
    WHERE error IS NULL AND state IS NULL AND NOT (algbw IS NULL AND collectives.size > 0)
    UNION ALL
    SELECT trace_id, `group`, operation, sequence, rank, group_size, start, seconds FROM calls_of_steps
    WHERE seconds IS NOT NULL),
  calls AS (
    SELECT trace_id, `group`, operation, sequence, who, any(group_size) AS size_of_group, any(began) AS begun,
      min(seconds) AS took, count() AS times
    FROM parts
    WHERE operation IN {SYNCHRONISING} AND sequence IS NOT NULL AND trace_id NOT IN (SELECT trace_id FROM first_steps)
    GROUP BY trace_id, `group`, operation, sequence, who),
  matched AS (
    SELECT trace_id, `group`, argMin(who, (took, who)) AS last, min(took) AS shortest, count() AS ranks,
      arrayMap(of -> (of.1, of.2, of.3 - shortest), groupArray((who, begun, took))) AS waits
    FROM calls
    GROUP BY trace_id, `group`, operation, sequence
    HAVING ranks = max(size_of_group) AND ranks > 1 AND max(times) = 1 AND max(took) > shortest),
  caused AS (
    SELECT trace_id, last, wait.1 AS who, any(ranks) AS ranks, if(
      countIf(wait.2 IS NULL) > 0,
      sum(wait.3),
      intervalLengthSum(assumeNotNull(wait.2), assumeNotNull(wait.2) + toInt64(wait.3 * 1e9)) / 1e9) AS waited
    FROM matched ARRAY JOIN waits AS wait
    WHERE who != last
    GROUP BY trace_id, `group`, last, who)
SELECT
  last AS rank,
  any(counted.last_in) AS last_in,
  any(counted.in_steps) AS in_steps,
  sum(waited / (ranks - 1)) AS caused_s,
  sum(waited) AS caused_rank_s
FROM caused
INNER JOIN (SELECT last, count() AS last_in, uniqExact(trace_id) AS in_steps FROM matched GROUP BY last) AS counted
  ON counted.last = caused.last
GROUP BY rank
ORDER BY caused_rank_s DESC, rank
