// Calls that ended as most do, many at once: no error, an end that was seen, on the host, with a number in their group.
// Plain C++: neither torch nor Python is needed, and nothing here is used by two threads at once.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "ring.h"

namespace otel_netmon {

// Bytes that a protobuf varint takes.
inline uint32_t varint_size(uint64_t value) {
  uint32_t size = 1;
  for (; value > 127; value >>= 7) ++size;
  return size;
}

// The time that is in at least one of some intervals, which come by their starts.
struct Union {
  int64_t total = 0, reached = std::numeric_limits<int64_t>::min();

  void add(int64_t begin, int64_t end) {
    if (end <= std::max(begin, reached)) return;
    total += end - std::max(begin, reached);
    reached = end;
  }

  // Of that, what lies before a time at which none begins later.
  int64_t before(int64_t time) const { return reached > time ? total - (reached - time) : total; }
};

// Calls of one operation on one group: what they add up to, and their ends in nanoseconds, sizes and durations.
struct Series {
  uint32_t kind = 0;  // that of the first
  uint64_t calls = 0, size = 0, duration = 0, last_sequence = 0;
  std::vector<double> ends, durations;  // seconds
  std::vector<int64_t> sizes;
  Distribution seconds, bytes;

  void add(const Record& record) {
    calls += 1;
    size += record[SIZE];
    duration += record[END] - record[START];
    last_sequence = std::max(last_sequence, record[SEQUENCE]);
  }
};

// The calls of a step, which has begun at `start`, or with the first of them, and has ended at `end`.
struct Summary {
  int64_t first, busy = 0;  // start of the first call; nanoseconds with at least one in flight, until `end`
  int64_t issuing = -1;  // until the last asynchronous one began, without those before that their callers waited in
  std::vector<Series> series{};
  // Of the first calls, by their start: in which series, and in microseconds after the start of
  // the one before, or of the step, and duration.
  std::string places{}, afters{}, durations{};
};

// The kinds of plain calls, by numbers: each is for calls with the same SIZE and KIND, whose sequence numbers take as
// many bytes: what their spans have in common.
class PlainKinds {
 public:
  static constexpr size_t MOST = 1024;
  static constexpr uint32_t NONE = ~uint32_t(0);

  // Take the oldest `most` calls that ended. The plain ones are put to `plain`, by step, each with the number of its
  // kind for KIND; all others, and those whose tickets are `named`, to `others`.
  void take(Ring& ring, size_t most, const std::vector<uint64_t>& named, std::vector<Record>& plain,
            std::vector<Record>& others) {
    Record record;
    for (size_t count = 0; count < most && ring.drain(record); ++count) {
      const bool is_named = std::find(named.begin(), named.end(), record[TICKET]) != named.end();
      const uint32_t number = is_plain(record) && !is_named ? number_of(record) : NONE;
      if (number == NONE || kinds_[number].is_excluded) {
        others.push_back(record);
      } else {
        plain.push_back(record);
        plain.back()[KIND] = number;
      }
    }
    std::stable_sort(plain.begin(), plain.end(),
                     [](const Record& a, const Record& b) { return a[BOUNDARY] < b[BOUNDARY]; });
  }

  // SIZE and KIND of that number.
  std::array<uint64_t, 2> of(uint32_t number) const { return {kinds_.at(number).size, kinds_.at(number).kind}; }
  size_t size() const { return kinds_.size(); }

  // From now on calls of this kind are none of the plain ones.
  void exclude(uint32_t number) { kinds_.at(number).is_excluded = true; }

  // Plain calls by operation and group, and by whether they are even.
  std::vector<Series> series(const Record* records, size_t count, const std::vector<double>& seconds,
                             const std::vector<double>& bytes) const {
    std::vector<Series> found;
    Places places{{}, uint64_t(EVEN) << 56 | OPERATION_AND_GROUP};
    for (const Record* record = records; record < records + count; ++record) {
      Series& one = found[place_of(*record, places, found)];
      const double duration = double(int64_t((*record)[END] - (*record)[START])) / 1e9;
      one.add(*record);
      one.ends.push_back(double(int64_t((*record)[END])) / 1e9);
      one.durations.push_back(duration);
      one.sizes.push_back(int64_t((*record)[SIZE]));
      one.seconds.add(seconds, duration);
      one.bytes.add(bytes, double((*record)[SIZE]));
    }
    return found;
  }

  // A step's; `most` calls one by one.
  Summary summary(const Record* records, size_t count, int64_t start, int64_t end, size_t most) const {
    Summary all{std::numeric_limits<int64_t>::max()};
    Places places{{}, OPERATION_AND_GROUP};
    std::vector<std::array<int64_t, 4>> calls;  // start, place, end, whether its caller did not wait in it
    for (const Record* record = records; record < records + count; ++record) {
      const size_t place = place_of(*record, places, all.series);
      all.series[place].add(*record);
      const bool is_async = flags_in(kinds_.at(uint32_t((*record)[KIND])).kind) & ASYNC;
      calls.push_back({int64_t((*record)[START]), int64_t(place), int64_t((*record)[END]), is_async});
      all.first = std::min(all.first, calls.back()[0]);
    }
    const int64_t since = std::min(all.first, start);
    std::sort(calls.begin(), calls.begin() + std::min(most, count));
    int64_t before = 0;  // microseconds
    for (size_t at = 0; at < std::min(most, count); ++at) {
      const auto [begun, place, ended, is_async] = calls[at];
      const int64_t from_since = (begun - since) / 1000;
      all.places += (at ? "," : "") + std::to_string(place);
      all.afters += (at ? "," : "") + std::to_string(from_since - before);
      before = from_since;
      all.durations += (at ? "," : "") + std::to_string((ended - begun) / 1000);
    }
    std::sort(calls.begin(), calls.end());
    Union busy, blocked;
    for (const auto& [begun, place, ended, is_async] : calls) {
      busy.add(begun, std::min(ended, end));
      if (is_async) {
        all.issuing = begun - since - blocked.before(begun);
      } else {
        blocked.add(begun, ended);
      }
    }
    all.busy = busy.total;
    return all;
  }

 private:
  struct Kind {
    uint64_t size, kind;
    bool is_excluded = false;
  };
  using Key = std::array<uint64_t, 3>;
  struct Hash {
    size_t operator()(const Key& key) const {
      return size_t((key[0] * 0x9E3779B97F4A7C15u ^ key[1]) * 0x9E3779B97F4A7C15u ^ key[2]);
    }
  };

  static constexpr uint64_t OPERATION_AND_GROUP = (uint64_t(1) << 40) - 1;
  struct Places {
    std::map<uint64_t, size_t> places;
    const uint64_t mask;  // of KIND
  };

  // Where in `found` calls like this one are added up.
  size_t place_of(const Record& record, Places& known, std::vector<Series>& found) const {
    const uint32_t number = uint32_t(record[KIND]);
    const auto [place, is_new] = known.places.try_emplace(kinds_.at(number).kind & known.mask, found.size());
    if (is_new) found.emplace_back().kind = number;
    return place->second;
  }

  static bool is_plain(const Record& record) {
    return record[OUTCOME] == 0 && flags_in(record[KIND]) & ON_HOST && record[SEQUENCE] != 0 &&
        int64_t(record[END]) > int64_t(record[START]);
  }

  uint32_t number_of(const Record& record) {
    const Key key{record[SIZE], record[KIND], varint_size(record[SEQUENCE])};
    const auto known = numbers_.find(key);
    if (known != numbers_.end()) return known->second;
    if (kinds_.size() >= MOST) return NONE;
    const uint32_t number = uint32_t(kinds_.size());
    kinds_.push_back({record[SIZE], record[KIND]});
    numbers_.emplace(key, number);
    return number;
  }

  std::vector<Kind> kinds_;
  std::unordered_map<Key, uint32_t, Hash> numbers_;
};

}  // namespace otel_netmon
