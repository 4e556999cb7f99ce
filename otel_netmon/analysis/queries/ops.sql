-- Each operation on each group, over all ranks: calls, and how long those took that ended well. Percentiles are
-- nearest-rank ones, bandwidths means weighted by time, as in a summary, and of calls with a span. Of `only_sums` of the
-- calls no more is known than the sums of their step; without an operation, where that had several or names none.
WITH
  backends AS (
    SELECT `group` AS name, any(backend) AS known FROM collectives WHERE backend IS NOT NULL
    GROUP BY name HAVING uniqExact(backend) = 1),
  told AS (
    SELECT trace_id, rank AS who, `group` AS name, operation, CAST(NULL, 'Nullable(Int64)') AS size FROM calls_of_steps
    UNION ALL
    SELECT trace_id, coalesce(rank, source_rank), ifNull(`group`, ''), operation, size FROM collectives
    WHERE trace_id IN (SELECT trace_id FROM sums_of_steps)),
  known AS (
    SELECT trace_id, who, name, count() AS calls, sum(size) AS bytes, uniqExact(operation) AS kinds, any(operation) AS one
    FROM told GROUP BY trace_id, who, name),
  every AS (
    SELECT operation, ifNull(`group`, '') AS group_name, ifNull(backend, '') AS on_backend, group_size,
      coalesce(rank, source_rank) AS who, 1 AS counted, 0 AS summed, error IS NOT NULL AS is_failed,
      error IS NULL AND ifNull(state = 'in_flight', false) AS is_open, size, multiIf(
        error IS NOT NULL OR state IS NOT NULL OR (algbw IS NULL AND size > 0), NULL,
        device_duration IS NULL, (end - start) / 1e9,
        device_duration) AS seconds, algbw, busbw
    FROM collectives
    UNION ALL
    SELECT operation, `group`, ifNull(backends.known, ''), group_size, rank, 1, 0, false, false, NULL, seconds, NULL, NULL
    FROM calls_of_steps LEFT JOIN backends ON backends.name = `group`
    UNION ALL
    SELECT if(known.kinds = 1, known.one, NULL), sums.`group`, ifNull(backends.known, ''), sums.group_size, sums.rank,
      greatest(0, toInt64(sums.calls) - known.calls), greatest(0, toInt64(sums.calls) - known.calls), false, false,
      greatest(0, toInt64(sums.size) - ifNull(known.bytes, 0)), NULL, NULL, NULL
    FROM sums_of_steps AS sums
    LEFT JOIN known ON known.trace_id = sums.trace_id AND known.who = sums.rank AND known.name = sums.`group`
    LEFT JOIN backends ON backends.name = sums.`group`)
SELECT
  operation,
  group_name,
  on_backend,
  max(group_size) AS ranks_of_group,
  uniqExact(who) AS ranks,
  sum(counted) AS calls,
  sum(summed) AS only_sums,
  countIf(is_failed) AS failed,
  countIf(is_open) AS unfinished,
  sum(size) AS bytes,
  quantileExact(0.49999999999)(seconds) AS p50_s,
  quantileExact(0.98999999999)(seconds) AS p99_s,
  sum(algbw * seconds) / sumIf(seconds, algbw IS NOT NULL) AS algbw_bytes_per_s,
  sum(busbw * seconds) / sumIf(seconds, busbw IS NOT NULL) AS busbw_bytes_per_s
FROM every
GROUP BY operation, group_name, on_backend
ORDER BY sum(seconds) DESC NULLS LAST, operation, group_name, on_backend
