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

// Calls of one operation on one group: what they add up to, and times one by one.
struct Series {
  uint32_t kind = 0;  // that of the first
  uint64_t size = 0, duration = 0, last_sequence = 0;
  std::vector<int64_t> starts, ends, durations, sizes;
  Distribution seconds, bytes;
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

  // Add up plain calls by operation and group; into buckets too, where there are `boundaries`.
  std::vector<Series> series(const Record* records, size_t count, const std::vector<double>& seconds,
                             const std::vector<double>& bytes) const {
    std::vector<Series> found;
    std::map<uint64_t, size_t> places;
    for (const Record* record = records; record < records + count; ++record) {
      const uint32_t number = uint32_t((*record)[KIND]);
      // group, operation and whether it is even; not its element type, device and whether it is asynchronous
      const uint64_t key = kinds_.at(number).kind & (uint64_t(EVEN) << 56 | ((uint64_t(1) << 40) - 1));
      const auto [place, is_new] = places.try_emplace(key, found.size());
      if (is_new) found.emplace_back().kind = number;
      Series& one = found[place->second];
      const int64_t duration = int64_t((*record)[END] - (*record)[START]);
      one.size += (*record)[SIZE];
      one.duration += duration;
      one.last_sequence = std::max(one.last_sequence, (*record)[SEQUENCE]);
      one.starts.push_back(int64_t((*record)[START]));
      one.ends.push_back(int64_t((*record)[END]));
      one.durations.push_back(duration);
      one.sizes.push_back(int64_t((*record)[SIZE]));
      if (!seconds.empty()) {
        one.seconds.add(seconds, double(duration) / 1e9);
        one.bytes.add(bytes, double((*record)[SIZE]));
      }
    }
    return found;
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
