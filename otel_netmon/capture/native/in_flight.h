// The calls in flight: a table of slots that any thread reads at any time, without a lock.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "record.h"

namespace otel_netmon {

// A slot's first word is its ticket: state (2 bits), index (21 bits), and how often the slot was used. It changes
// with every use, so a ticket names one call for good: what is done with that of a call which ended does nothing.
//
// Readers take a slot as a sequence lock: ticket, words, ticket again. The words are atomics with acquire and release,
// which cost nothing on x86, so that no reader ever sees a mixture of two calls.
class InFlight {
 public:
  static constexpr uint32_t MOST = 1 << 21;

  explicit InFlight(uint32_t capacity)
      : capacity_(std::min(capacity, MOST)), slots_(new Slot[capacity_]()) {}

  // Hold a call; 0 when all slots are taken. Slots that were used last are used first: few are ever touched. What
  // `note` gives for its ticket is kept with it: `claim` gives it as the outcome.
  template <typename Note>
  uint64_t begin(const Record& record, Note note) {
    uint32_t index;
    if (!pop(index)) return 0;
    Slot& slot = slots_[index];
    const uint64_t uses = slot.words[TICKET].load(std::memory_order_relaxed) >> USES;
    const uint64_t ticket = (uses + 1) << USES | uint64_t(index) << INDEX | FLYING;
    for (size_t word = START; word < OUTCOME; ++word) {
      slot.words[word].store(record[word], std::memory_order_release);
    }
    slot.words[OUTCOME].store(note(ticket), std::memory_order_release);
    slot.words[TICKET].store(ticket, std::memory_order_release);
    return ticket;
  }

  // Take a call for oneself; false when it ended before. It stays visible until `release`, so that a reader which
  // looks here first and at the finished calls then misses none.
  bool claim(uint64_t ticket, Record& record) {
    if (ticket == 0) return false;
    Slot& slot = slot_of(ticket);
    uint64_t expected = ticket;
    if (!slot.words[TICKET].compare_exchange_strong(
            expected, ticket ^ FLYING ^ FINISHING, std::memory_order_acq_rel, std::memory_order_relaxed)) {
      return false;
    }
    record[TICKET] = ticket;
    for (size_t word = START; word < WORDS; ++word) {
      record[word] = slot.words[word].load(std::memory_order_relaxed);
    }
    record[END] = 0;
    return true;
  }

  // After `claim`: the slot is free for another call.
  void release(uint64_t ticket) {
    slot_of(ticket).words[TICKET].store(ticket >> USES << USES | index_of(ticket) << INDEX, std::memory_order_release);
    push(uint32_t(index_of(ticket)));
  }

  // Note that the end of a call cannot be seen, or can again. The mark names the call: it says nothing of the next.
  void mark_unseen(uint64_t ticket, bool unseen) {
    if (ticket == 0) return;
    Slot& slot = slot_of(ticket);
    uint64_t marked = ticket;
    if (!unseen) {
      slot.words[END].compare_exchange_strong(marked, 0, std::memory_order_relaxed);
    } else if (slot.words[TICKET].load(std::memory_order_acquire) == ticket) {
      slot.words[END].store(ticket, std::memory_order_relaxed);
    }
  }

  // Every call that is in flight, each as a record without an end.
  template <typename Take>
  void each(Take take) const {
    const uint32_t used = std::min(used_.load(std::memory_order_acquire), capacity_);
    for (uint32_t index = 0; index < used; ++index) {
      const Slot& slot = slots_[index];
      Record record;
      const uint64_t ticket = slot.words[TICKET].load(std::memory_order_acquire);
      if ((ticket & STATE) == 0) continue;
      for (size_t word = START; word < WORDS; ++word) {
        record[word] = slot.words[word].load(std::memory_order_acquire);
      }
      const uint64_t after = slot.words[TICKET].load(std::memory_order_relaxed);
      if ((after & STATE) == 0 || after >> INDEX != ticket >> INDEX) continue;  // it ended meanwhile
      record[TICKET] = (ticket & ~STATE) | FLYING;
      record[OUTCOME] = outcome_of(0, record[END] == record[TICKET] ? UNSEEN : 0);
      record[END] = 0;
      take(std::as_const(record));
    }
  }

  // In a forked child, which is alone: what was in flight is the parent's. Tickets go on: none is given twice.
  void forget() {
    const uint32_t used = std::min(used_.load(), capacity_);
    for (uint32_t index = 0; index < used; ++index) {
      auto& ticket = slots_[index].words[TICKET];
      ticket.store(ticket.load() >> USES << USES | uint64_t(index) << INDEX);
    }
    free_.store(0);
    used_.store(0);
  }

 private:
  static constexpr uint64_t FLYING = 1, FINISHING = 2, STATE = 3;
  static constexpr int INDEX = 2, USES = 23;
  static constexpr Word NEXT = OUTCOME;  // of a free slot: the index of the next free one, plus 1

  struct alignas(64) Slot {
    std::array<std::atomic<uint64_t>, WORDS> words;
  };

  static uint64_t index_of(uint64_t ticket) { return ticket >> INDEX & (MOST - 1); }
  Slot& slot_of(uint64_t ticket) { return slots_[index_of(ticket)]; }

  // Free slots are a stack. Its head counts every change in its upper half: a head that was taken and put back in
  // between is not mistaken for the one that was read.
  bool pop(uint32_t& index) {
    uint64_t head = free_.load(std::memory_order_acquire);
    while (uint32_t(head) != 0) {
      index = uint32_t(head) - 1;
      const uint64_t next = slots_[index].words[NEXT].load(std::memory_order_relaxed);
      if (free_.compare_exchange_weak(head, counted(head, next), std::memory_order_acq_rel, std::memory_order_acquire)) {
        return true;
      }
    }
    if (used_.load(std::memory_order_relaxed) >= capacity_) return false;
    index = used_.fetch_add(1, std::memory_order_acq_rel);
    return index < capacity_;  // beyond it by as many as there are threads, at most
  }

  void push(uint32_t index) {
    uint64_t head = free_.load(std::memory_order_relaxed);
    do {
      slots_[index].words[NEXT].store(uint32_t(head), std::memory_order_release);
    } while (!free_.compare_exchange_weak(
        head, counted(head, uint64_t(index) + 1), std::memory_order_acq_rel, std::memory_order_relaxed));
  }

  static uint64_t counted(uint64_t head, uint64_t next) { return ((head >> 32) + 1) << 32 | uint32_t(next); }

  const uint32_t capacity_;
  const std::unique_ptr<Slot[]> slots_;
  alignas(64) std::atomic<uint64_t> free_{0};
  alignas(64) std::atomic<uint32_t> used_{0};
};

}  // namespace otel_netmon
