// What must hold where this was compiled before it is used: run once by whoever loads it, some 0.1 ms.
#pragma once

#include <string>

#include "ring.h"
#include "spans.h"

namespace otel_netmon {

// Empty, or what is wrong.
inline std::string self_test() {
  Ring ring(4, {1.0}, {1.0});
  Record call{};
  call[SEQUENCE] = 7;
  call[SIZE] = 64;
  call[KIND] = kind_of(3, 2, 6, 0, ON_HOST | EVEN);
  if (group_in(call[KIND]) != 3 || operation_in(call[KIND]) != 2 || flags_in(call[KIND]) != (ON_HOST | EVEN)) {
    return "a kind is not read as it was written";
  }
  uint64_t tickets[5];
  for (uint64_t& ticket : tickets) {
    call[START] = now();
    ticket = ring.begin(call);
  }
  if (tickets[4] != 0 || ring.tally.count() != 1) return "a fifth call was held where there is room for four";
  size_t seen = 0;
  ring.in_flight.each([&](const Record& record) { seen += record[SEQUENCE] == 7 && record[END] == 0; });
  if (seen != 4) return "not every call in flight is seen";
  for (int round = 0; round < 2; ++round) {
    for (size_t at = 0; at < 4; ++at) {
      if (ring.finish(tickets[at], now()) != (round == 0)) return "a call ended twice, or never";
    }
  }
  for (int more = 0; more < 3; ++more) ring.finish(ring.begin(call), now());
  if (ring.tally.count() != 4) return "overwritten calls are not counted";
  const Counted counted = ring.tally.take();
  if (counted.size() != 1 || counted.begin()->second.sizes.counts[1] != 3) return "overwritten calls are not summed up";
  Record record;
  for (seen = 0; ring.drain(record); ++seen) {
    if (record[SIZE] != 64 || int64_t(record[END]) < int64_t(record[START])) return "a record is not what was written";
  }
  if (seen != 4) return "not every call that ended is there";
  SpanEncoder encoder(true);
  encoder.set(0, {{"a", "b", "c", "d", "e", "f"}, 0.5});
  const Record ended{0, 1, 3, 7, 0, 4, 0, 0};
  std::vector<Record> missing;
  const bool is_right = encoder.encode(&ended, {{0, 1, 15, "<", ">"}}, 10, "-", missing) ==
      "a<000000000000000f>b11-13c7d2000000000.0e1000000000.0f";
  return is_right && missing.empty() ? "" : "a span is not what its template says";
}

}  // namespace otel_netmon
