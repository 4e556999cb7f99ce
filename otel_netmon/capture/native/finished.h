// The calls that ended and wait for Python: a bounded queue, many writers and readers, no lock.
#pragma once

#include <atomic>
#include <memory>

#include "record.h"

namespace otel_netmon {

// Dmitry Vyukov's bounded queue: each cell says by a number whose turn it is, that of the writer of position n, of its
// reader (n + 1), or of the writer one round later (n + cells).
class Finished {
 public:
  explicit Finished(uint32_t capacity) : capacity_(capacity) {
    size_t cells = 2;
    while (cells < capacity) cells *= 2;
    mask_ = cells - 1;
    cells_.reset(new Cell[cells]);
    clear();
  }

  // False when it is full.
  bool push(const Record& record) {
    uint64_t at = tail_.load(std::memory_order_relaxed);
    for (;;) {
      if (at - head_.load(std::memory_order_relaxed) >= capacity_ && at == tail_.load(std::memory_order_relaxed)) {
        return false;
      }
      Cell& cell = cells_[at & mask_];
      const int64_t turn = int64_t(cell.turn.load(std::memory_order_acquire) - at);
      if (turn == 0) {
        if (tail_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) {
          cell.record = record;
          cell.turn.store(at + 1, std::memory_order_release);
          return true;
        }
      } else if (turn < 0) {
        return false;  // its reader of the round before is not through
      } else {
        at = tail_.load(std::memory_order_relaxed);
      }
    }
  }

  // Take the oldest; false when there is none.
  bool pop(Record& record) {
    uint64_t at = head_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[at & mask_];
      const int64_t turn = int64_t(cell.turn.load(std::memory_order_acquire) - (at + 1));
      if (turn == 0) {
        if (head_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) {
          record = cell.record;
          cell.turn.store(at + mask_ + 1, std::memory_order_release);
          return true;
        }
      } else if (turn < 0) {
        return false;
      } else {
        at = head_.load(std::memory_order_relaxed);
      }
    }
  }

  size_t size() const {
    const uint64_t head = head_.load(std::memory_order_relaxed), tail = tail_.load(std::memory_order_relaxed);
    return tail > head ? tail - head : 0;
  }

  // Empty it, while nobody else is there.
  void clear() {
    for (size_t cell = 0; cell <= mask_; ++cell) cells_[cell].turn.store(cell);
    head_.store(0);
    tail_.store(0);
  }

 private:
  struct alignas(8) Cell {
    std::atomic<uint64_t> turn;
    Record record;
  };

  const uint32_t capacity_;
  size_t mask_;
  std::unique_ptr<Cell[]> cells_;
  alignas(64) std::atomic<uint64_t> head_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};
};

}  // namespace otel_netmon
