// The ring under many threads, without torch and Python: `make sanitize` builds it with each sanitizer.
//
// Writers begin and finish calls, also each other's; one thread reads those in flight, one drains, one abandons. Every
// record carries a checksum of itself, and in the end every call must be in exactly one place.

#include <cstdio>
#include <cstdlib>
#include <thread>

#include <unistd.h>

#include "ring.h"
#include "self_test.h"

using namespace otel_netmon;

constexpr uint32_t CAPACITY = 8;
constexpr size_t WRITERS = 6;

static uint64_t checksum(const Record& record) {
  uint64_t sum = 0x9E3779B97F4A7C15;
  for (const Word word : {START, SEQUENCE, BOUNDARY, KIND}) sum = (sum ^ record[word]) * 0x100000001B3;
  return sum;
}

static void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

int main(int count, char** arguments) {
  const uint64_t calls = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 100'000;
  const std::string wrong = self_test();
  check(wrong.empty(), wrong.c_str());
  Ring ring(CAPACITY, {1e-6, 1e-3}, {64.0});
  std::FILE* const file = std::tmpfile();
  check(file && ftruncate(fileno(file), 4096) == 0, "there is no file for the last calls");
  LastCalls last_calls(fileno(file), 0);
  ring.last_calls = &last_calls;
  std::atomic<uint64_t> handed[8] = {};  // tickets that another thread finishes
  std::atomic<uint64_t> held{0}, abandoned{0}, drained{0}, seen{0};
  std::atomic<size_t> writing{WRITERS};

  const auto write = [&](size_t writer) {
    for (uint64_t call = 1; call <= calls; ++call) {
      Record record{};
      record[START] = uint64_t(now());
      record[SEQUENCE] = call;
      record[BOUNDARY] = writer;
      record[KIND] = kind_of(uint32_t(writer), uint8_t(call & 3), 6, 0, ON_HOST);
      record[SIZE] = checksum(record);
      const uint64_t ticket = ring.begin(record);
      if (ticket != 0) held.fetch_add(1);
      if (call & 64) ring.in_flight.mark_unseen(ticket, true);
      const uint64_t other = handed[call & 7].exchange(ticket);
      if (call % 5 == 0) ring.messages.add(other, "it failed");
      if (ring.finish(other, now(), call % 5 == 0 ? 2 : 0)) check(!ring.finish(other, now()), "a call ended twice");
    }
    writing.fetch_sub(1);
  };
  const auto look = [&] {
    do {
      ring.in_flight.each([&](const Record& record) {
        check(record[SIZE] == checksum(record), "a record in flight is torn");
        check(record[END] == 0, "a call in flight has ended");
        seen.fetch_add(1, std::memory_order_relaxed);
      });
    } while (writing.load() > 0);
  };
  const auto drain = [&] {
    Record record;
    do {
      while (ring.drain(record)) {
        check(record[SIZE] == checksum(record), "a record that ended is torn");
        drained.fetch_add(1, std::memory_order_relaxed);
      }
      for (const auto& [ticket, said] : ring.messages.take()) check(said == "it failed", "a message is torn");
      if (drained.load(std::memory_order_relaxed) % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } while (writing.load() > 0);
  };
  const auto abandon = [&] {
    do {
      std::vector<uint64_t> tickets;
      ring.in_flight.each([&](const Record& record) { tickets.push_back(record[TICKET]); });
      if (!tickets.empty() && ring.abandon(tickets[tickets.size() / 2])) abandoned.fetch_add(1);
      ring.tally.take();
      std::this_thread::yield();
    } while (writing.load() > 0);
  };

  std::vector<std::thread> threads;
  for (size_t writer = 0; writer < WRITERS; ++writer) threads.emplace_back(write, writer);
  for (int readers = 0; readers < 2; ++readers) threads.emplace_back(look);
  threads.emplace_back(drain);
  threads.emplace_back(abandon);
  for (std::thread& thread : threads) thread.join();

  Record record;
  while (ring.drain(record)) drained.fetch_add(1);
  uint64_t flying = 0;
  ring.in_flight.each([&](const Record&) { ++flying; });
  const uint64_t lost = calls * WRITERS - held.load();
  std::printf("%llu calls: %llu drained, %llu overwritten, %llu without a slot, %llu abandoned, %llu in flight\n",
              (unsigned long long)(calls * WRITERS), (unsigned long long)drained.load(),
              (unsigned long long)(ring.tally.count() - lost), (unsigned long long)lost,
              (unsigned long long)abandoned.load(), (unsigned long long)flying);
  check(drained + ring.tally.count() + abandoned + flying == calls * WRITERS, "the calls do not add up");
  check(seen.load() > 0, "nothing was ever seen in flight");
  uint64_t noted = 0;
  std::array<Record, LastCalls::MOST> last;
  check(pread(fileno(file), last.data(), sizeof(last), 0) == sizeof(last), "the last calls cannot be read");
  for (const Record& one : last) noted += one[START] != 0 && one[TICKET] != 0;
  check(noted == last.size(), "of the last calls some are missing");
  ring.tally.take();
  ring.messages.take();
  ring.forget();
  check(ring.begin(record) != 0 && ring.tally.count() == 0, "a forked child does not begin empty");
  return 0;
}
