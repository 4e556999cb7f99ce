-- Each operation on each group, over all ranks: calls with a span, and how long those took that ended well.
-- Percentiles are nearest-rank ones, bandwidths means weighted by time, as in a summary.
WITH timed AS (
  SELECT *, multiIf(
      error IS NOT NULL OR state IS NOT NULL OR (algbw IS NULL AND size > 0), NULL,
      device_duration IS NULL, (end - start) / 1e9,
      device_duration) AS seconds
  FROM collectives)
SELECT
  operation,
  ifNull(`group`, '') AS group_name,
  ifNull(backend, '') AS on_backend,
  max(group_size) AS ranks_of_group,
  uniqExact(coalesce(rank, source_rank)) AS ranks,
  count() AS calls,
  countIf(error IS NOT NULL) AS failed,
  countIf(error IS NULL AND state = 'in_flight') AS unfinished,
  sum(size) AS bytes,
  quantileExact(0.49999999999)(seconds) AS p50_s,
  quantileExact(0.98999999999)(seconds) AS p99_s,
  sum(algbw * seconds) / sumIf(seconds, algbw IS NOT NULL) AS algbw_bytes_per_s,
  sum(busbw * seconds) / sumIf(seconds, busbw IS NOT NULL) AS busbw_bytes_per_s
FROM timed
GROUP BY operation, group_name, on_backend
ORDER BY sum(seconds) DESC NULLS LAST, operation, group_name, on_backend
