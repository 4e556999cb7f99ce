// From the call to the record that Python drains. Plain C++: neither torch nor Python is needed.
#pragma once

#include "finished.h"
#include "in_flight.h"
#include "last_calls.h"
#include "messages.h"
#include "record.h"
#include "tally.h"

namespace otel_netmon {

// At most `capacity` calls in flight, and as many that ended, the oldest going first. Never freed by those who use it:
// a completion on its way finds it, whatever was uninstalled meanwhile.
class Ring {
 public:
  Ring(uint32_t capacity, std::vector<double> seconds, std::vector<double> sizes)
      : in_flight(capacity), finished_(capacity), tally(std::move(seconds), std::move(sizes)) {}

  // The ticket of a call that starts now; 0 when it could not be held, which is counted.
  uint64_t begin(const Record& record) {
    const uint64_t ticket = in_flight.begin(record, [&](uint64_t ticket) {
      LastCalls* const box = last_calls.load(std::memory_order_acquire);
      return box == nullptr ? uint64_t(0) : box->begin(record, ticket);
    });
    if (ticket == 0) tally.lost();
    return ticket;
  }

  // The call ended. False when it had before, or was abandoned.
  bool finish(uint64_t ticket, int64_t end, uint32_t error = 0, uint32_t flags = 0) {
    Record record;
    if (!in_flight.claim(ticket, record)) return false;
    ended(record, end, error, flags);
    return true;
  }

  // The call raised some time ago; when is not known, nor with what.
  bool failed(uint64_t ticket, uint32_t error) {
    Record record;
    if (!in_flight.claim(ticket, record)) return false;
    ended(record, int64_t(record[START]), error, LATE);
    return true;
  }

  // Take a call out: it will not finish here.
  bool abandon(uint64_t ticket) {
    Record record;
    if (!in_flight.claim(ticket, record)) return false;
    in_flight.release(ticket);
    return true;
  }

  bool drain(Record& record) { return finished_.pop(record); }
  size_t waiting() const { return finished_.size(); }

  // In a forked child, which is alone.
  void forget() {
    in_flight.forget();
    finished_.clear();
    tally.forget();
    messages.forget();
    last_calls = nullptr;  // it is the parent's
  }

  InFlight in_flight;
  std::atomic<LastCalls*> last_calls{nullptr};
  Messages messages;

 private:
  Finished finished_;

  // A call that was claimed ends.
  void ended(Record& record, int64_t end, uint32_t error, uint32_t flags) {
    const uint64_t place = record[OUTCOME];
    record[END] = uint64_t(end);
    record[OUTCOME] = outcome_of(error, flags);
    if (LastCalls* const box = last_calls.load(std::memory_order_acquire)) box->end(place, record);
    put(record);
    in_flight.release(record[TICKET]);
  }

  void put(const Record& record) {
    for (int tries = 0; tries < TRIES; ++tries) {
      if (finished_.push(record)) return;
      Record oldest;
      if (finished_.pop(oldest)) tally.add(oldest);
    }
    tally.add(record);  // a reader was stopped in the middle of a cell
  }

  static constexpr int TRIES = 16;

 public:
  Tally tally;
};

}  // namespace otel_netmon
