-- Each step over all ranks: how long it took, which rank took longest, and what the time went into.
SELECT
  ifNull(run_id, '') AS run,
  step,
  count() AS ranks,
  quantileExact(0.49999999999)((end - start) / 1e9) AS median_s,
  max((end - start) / 1e9) AS longest_s,
  argMax(who, (end - start, -who)) AS longest_on,
  quantileExact(0.49999999999)((end - start) / 1e9 - collective_time) AS own_s,
  max((end - start) / 1e9 - collective_time) AS most_own_s,
  argMax(who, (ifNull((end - start) / 1e9 - collective_time, 0), -who)) AS most_own_on,
  max(data_time) AS most_data_s,
  max(gc_time) AS most_gc_s
FROM (SELECT *, coalesce(rank, source_rank, -1) AS who FROM steps)
WHERE name = 'rank_step' AND step IS NOT NULL AND NOT ifNull(incomplete, false)
GROUP BY run, step
ORDER BY run, step
