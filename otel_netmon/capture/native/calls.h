// What the hooks know of groups, and of the calls that a thread is inside of.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "errors.h"
#include "ring.h"

namespace otel_netmon {

// Counts collectives; Python's iterators `itertools.count` before and after take their place.
struct Counter {
  explicit Counter(int64_t first) : last(first - 1) {}
  int64_t next() { return last.fetch_add(1, std::memory_order_relaxed) + 1; }
  std::atomic<int64_t> last;
};

// A process group that is hooked.
struct Group {
  Group(uint32_t number, uint64_t size, std::shared_ptr<Counter> sequence)
      : number(number), size(size), sequence(std::move(sequence)) {}

  const uint32_t number;
  const uint64_t size;
  const std::shared_ptr<Counter> sequence;
  std::atomic<bool> is_placed{false};           // once Python has seen its first call
  std::atomic<Counter*> shared{nullptr};        // also counts its collectives, where all ranks of the job take part
  std::shared_ptr<Counter> keeps_shared;
  std::atomic<bool> p2p_has_futures{true};      // until the first send or receive shows that they have none
};

// An operation, and what a hook stands for: see `operations.py` and the table in `backends/hooks.py`.
constexpr uint8_t IS_P2P = 1, IS_SHARE = 2, HAS_SPLITS = 4, SPLITS_UNKNOWN = 8;
struct Operation {
  uint8_t number = 0, flags = 0;
};
struct Hook {
  bool is_known = false, is_output = false, has_variants = false;
  std::array<Operation, 3> operations;
};

// The calls that this thread is inside of, between their pre- and their post-hook. A collective of one group may be
// made of those of others. A call that raises has no post-hook: it is found by the next one, or when the thread ends.
class Calls {
 public:
  struct Call {
    uint32_t group;
    int64_t id;
    Ring* ring;
    uint64_t ticket;
    int64_t start;
    uint8_t flags;
    bool is_p2p, has_tensors;
  };

  ~Calls() { fail_all(); }

  // A call begins; what is left of an earlier one of the group raised.
  void push(const Call& call) {
    for (size_t at = 0; at < count_; ++at) {
      if (calls_[at].group == call.group) {
        fail(at);
        break;
      }
    }
    if (count_ == calls_.size()) fail(0);
    calls_[count_++] = call;
  }

  bool pop(uint32_t group, int64_t id, Call& call) {
    for (size_t at = count_; at-- > 0;) {
      if (calls_[at].group == group && calls_[at].id == id) {
        call = calls_[at];
        remove(at);
        return true;
      }
    }
    return false;
  }

  void fail_all() {
    while (count_ > 0) fail(count_ - 1);
  }

  void forget() { count_ = 0; }

 private:
  void fail(size_t at) {
    calls_[at].ring->failed(calls_[at].ticket, OTHER);
    remove(at);
  }

  void remove(size_t at) {
    for (--count_; at < count_; ++at) calls_[at] = calls_[at + 1];
  }

  std::array<Call, 16> calls_;
  size_t count_ = 0;
};

}  // namespace otel_netmon
