// Calls that the queue had no room for, counted into the buckets of the metrics.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <tuple>
#include <vector>

#include "record.h"

namespace otel_netmon {

// What `Distribution` in aggregator.py holds: counts and sums per bucket, the least and the greatest.
struct Distribution {
  std::vector<uint64_t> counts;
  std::vector<double> sums;
  double least = std::numeric_limits<double>::infinity();
  double greatest = -std::numeric_limits<double>::infinity();

  void add(const std::vector<double>& boundaries, double value) {
    counts.resize(boundaries.size() + 1);
    sums.resize(boundaries.size() + 1);
    const size_t bucket = std::lower_bound(boundaries.begin(), boundaries.end(), value) - boundaries.begin();
    counts[bucket] += 1;
    sums[bucket] += value;
    least = std::min(least, value);
    greatest = std::max(greatest, value);
  }
};

// Group, operation, whether on the host, error.
using TallyKey = std::tuple<uint32_t, uint8_t, bool, uint32_t>;
struct Distributions {
  Distribution seconds, sizes;
};
using Counted = std::map<TallyKey, Distributions>;

// The only lock on the way of a call, taken where Python did not keep up.
class Tally {
 public:
  Tally(std::vector<double> seconds, std::vector<double> sizes)
      : seconds(std::move(seconds)), sizes(std::move(sizes)) {}

  const std::vector<double> seconds, sizes;  // boundaries of the buckets

  void add(const Record& record) {
    const uint64_t kind = record[KIND], outcome = record[OUTCOME];
    const bool on_host = flags_in(kind) & ON_HOST;
    const TallyKey key{group_in(kind), operation_in(kind), on_host, error_in(outcome)};
    std::lock_guard<std::mutex> guard(lock_);
    ++count_;
    if (counted_.size() >= MOST && counted_.find(key) == counted_.end()) return;
    Distributions& one = counted_[key];
    if (on_host && !(flags_in_outcome(outcome) & LATE)) {  // else how long it took is not known
      one.seconds.add(seconds, double(int64_t(record[END] - record[START])) / 1e9);
    }
    one.sizes.add(sizes, double(record[SIZE]));
  }

  // A call that there was no slot for.
  void lost() {
    std::lock_guard<std::mutex> guard(lock_);
    ++count_;
  }

  // What was counted since the last time.
  Counted take() {
    Counted taken;
    std::lock_guard<std::mutex> guard(lock_);
    taken.swap(counted_);
    return taken;
  }

  void reset() {
    std::lock_guard<std::mutex> guard(lock_);
    counted_.clear();
    count_ = 0;
  }

  uint64_t count() {
    std::lock_guard<std::mutex> guard(lock_);
    return count_;
  }

  // In a forked child, which is alone: another thread of the parent's may have held the lock.
  void forget() {
    new (&lock_) std::mutex;
    new (&counted_) Counted;  // it may have been half changed: leak it
    count_ = 0;
  }

 private:
  static constexpr size_t MOST = 65536;

  std::mutex lock_;
  Counted counted_;
  uint64_t count_ = 0;
};

}  // namespace otel_netmon
