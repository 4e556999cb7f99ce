// One call as it is recorded: 64 bytes, the same in memory and as Python unpacks them ("<Qqqqq16sII").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are read as little-endian");

namespace otel_netmon {

// A record is eight words, so that each can be an atomic while the call is in flight. Times are nanoseconds of
// CLOCK_MONOTONIC; an end of 0 means in flight, and a sequence of 0 that the call has no number.
enum Word : size_t { TICKET, START, END, SEQUENCE, BOUNDARY, SIZE, KIND, OUTCOME, WORDS };

using Record = std::array<uint64_t, WORDS>;
static_assert(sizeof(Record) == 64);

// KIND: group (32 bits), operation, element type, device type, flags (8 bits each). With SIZE it is what many calls
// have in common.
constexpr uint8_t ASYNC = 1, ON_HOST = 2, EVEN = 4;

inline uint64_t kind_of(uint32_t group, uint8_t operation, int8_t dtype, int8_t device, uint8_t flags) {
  return group | uint64_t(operation) << 32 | uint64_t(uint8_t(dtype)) << 40 | uint64_t(uint8_t(device)) << 48 |
      uint64_t(flags) << 56;
}

inline uint32_t group_in(uint64_t kind) { return uint32_t(kind); }
inline uint8_t operation_in(uint64_t kind) { return uint8_t(kind >> 32); }
inline uint8_t flags_in(uint64_t kind) { return uint8_t(kind >> 56); }

// OUTCOME: class of the error (32 bits, see errors.h; 0: none), then flags.
constexpr uint32_t LATE = 1, UNSEEN = 2;

inline uint64_t outcome_of(uint32_t error, uint32_t flags) { return error | uint64_t(flags) << 32; }
inline uint32_t error_in(uint64_t outcome) { return uint32_t(outcome); }
inline uint32_t flags_in_outcome(uint64_t outcome) { return uint32_t(outcome >> 32); }

inline int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t(1'000'000'000) + time.tv_nsec;
}

}  // namespace otel_netmon
