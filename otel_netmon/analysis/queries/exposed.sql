-- How much of the communication of each step the training waited for: time with at least one call in flight, and
-- of that the calls that block and the waits for those that do not. Medians over ranks. Where calls have no spans it is
-- told whether they block only if all do; `blocking_s` is absent elsewhere, and `exposed_share` then the least it was.
WITH calls AS (
  SELECT trace_id, coalesce(rank, source_rank) AS who,
    intervalLengthSumIf(start, end, is_async IS NOT NULL AND NOT is_async) / 1e9 AS seconds
  FROM collectives GROUP BY trace_id, who)
SELECT
  step,
  count() AS ranks,
  quantileExact(0.49999999999)((end - start) / 1e9) AS step_s,
  quantileExact(0.49999999999)(collective_time) AS in_flight_s,
  quantileExact(0.49999999999)(wait_time) AS waiting_s,
  quantileExact(0.49999999999)(blocking) AS blocking_s,
  quantileExact(0.49999999999)((ifNull(wait_time, 0) + ifNull(blocking, 0)) * 1e9 / (end - start)) AS exposed_share
FROM (
  SELECT of.*, multiIf(
      calls.trace_id != '', calls.seconds,
      ifNull(collective_count, 0) = 0, 0,
      issue_time IS NULL, collective_time,
      NULL) AS blocking
  FROM (SELECT *, coalesce(rank, source_rank) AS who FROM steps WHERE name = 'rank_step' AND step IS NOT NULL) AS of
  LEFT JOIN calls ON of.trace_id = calls.trace_id AND of.who = calls.who)
GROUP BY step
ORDER BY step
