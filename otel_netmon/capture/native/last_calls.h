// The last calls in a file that the process maps: what is in it outlives the process, should that be killed.
#pragma once

#include <atomic>
#include <cerrno>
#include <system_error>

#include <sys/mman.h>

#include "record.h"

namespace otel_netmon {

// A ring of records, the oldest going first. Never unmapped: a completion may come at any time. Whoever reads it does so
// after the process has ended, when nobody writes: all that must hold is that a thread which died half-way through a
// record leaves none, so its start is written last.
class LastCalls {
 public:
  static constexpr uint64_t MOST = 64;

  // `offset` is that of a page. The file has to be as long as that and the records.
  LastCalls(int file, off_t offset) {
    void* const memory = mmap(nullptr, MOST * sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    cells_ = static_cast<Cell*>(memory);
  }

  // Write a call that begins; gives its place, which is never 0.
  uint64_t begin(const Record& record, uint64_t ticket) {
    const uint64_t place = next_.fetch_add(1, std::memory_order_relaxed) + 1;
    Cell& cell = cells_[place % MOST];
    cell[START].store(0, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    cell[TICKET].store(ticket, std::memory_order_relaxed);
    cell[END].store(0, std::memory_order_relaxed);
    for (size_t word = SEQUENCE; word < OUTCOME; ++word) cell[word].store(record[word], std::memory_order_relaxed);
    cell[OUTCOME].store(0, std::memory_order_relaxed);
    cell[START].store(record[START], std::memory_order_release);
    return place;
  }

  // Note that it ended, if no later one has taken its place.
  void end(uint64_t place, const Record& record) {
    Cell& cell = cells_[place % MOST];
    if (place == 0 || cell[TICKET].load(std::memory_order_relaxed) != record[TICKET]) return;
    cell[OUTCOME].store(record[OUTCOME], std::memory_order_relaxed);
    cell[END].store(record[END], std::memory_order_release);
  }

 private:
  using Cell = std::array<std::atomic<uint64_t>, WORDS>;
  static_assert(sizeof(Cell) == sizeof(Record));

  Cell* cells_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace otel_netmon
