-- What moved between hosts: goodput while there was something to send, round-trip times, segments sent again.
SELECT
  ifNull(source_host, '') AS from_host,
  ifNull(host, '') AS to_host,
  count() AS readings,
  sum(bytes_sent) AS bytes,
  sumIf(bytes_sent, busy_time > 0) / nullIf(sumIf(busy_time, busy_time > 0), 0) AS goodput_bytes_per_s,
  quantileExact(0.49999999999)(rtt) AS rtt_s,
  min(min_rtt) AS min_rtt_s,
  sum(retransmits) / nullIf(sum(segments_sent), 0) AS sent_again_share,
  max(backoff) AS most_backoff
FROM peers
WHERE from_host != to_host
GROUP BY from_host, to_host
ORDER BY bytes DESC, from_host, to_host
