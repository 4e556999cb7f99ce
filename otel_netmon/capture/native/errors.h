// The class that an exception becomes in Python, as a number: the order of torch's own translation; and what it says.
#pragma once

#include <cstdint>
#include <exception>

#include <c10/util/Exception.h>
#include <pybind11/pybind11.h>

#include "ring.h"

namespace otel_netmon {

// OTHER is OpenTelemetry's error.type for a failure of which the class is not known.
#define OTEL_NETMON_ERRORS(_)                                        \
  _(IndexError, "IndexError")                                        \
  _(ValueError, "ValueError")                                        \
  _(TypeError, "TypeError")                                          \
  _(NotImplementedError, "NotImplementedError")                      \
  _(BufferError, "BufferError")                                      \
  _(SyntaxError, "SyntaxError")                                      \
  _(LinAlgError, "torch._C._LinAlgError")                            \
  _(OutOfMemoryError, "torch.OutOfMemoryError")                      \
  _(DistBackendError, "torch.distributed.DistBackendError")          \
  _(DistNetworkError, "torch.distributed.DistNetworkError")          \
  _(DistQueueEmptyError, "torch.distributed.QueueEmptyError")        \
  _(DistStoreError, "torch.distributed.DistStoreError")              \
  _(DistError, "torch.distributed.DistError")                        \
  _(AcceleratorError, "torch.AcceleratorError")

enum ErrorClass : uint32_t {
  NO_ERROR,
  OTHER,
  RUNTIME_ERROR,
#define OTEL_NETMON_NUMBER(type, name) OF_##type,
  OTEL_NETMON_ERRORS(OTEL_NETMON_NUMBER)
#undef OTEL_NETMON_NUMBER
};

// By number.
constexpr const char* ERROR_NAMES[] = {
    "",
    "_OTHER",
    "RuntimeError",
#define OTEL_NETMON_NAME(type, name) name,
    OTEL_NETMON_ERRORS(OTEL_NETMON_NAME)
#undef OTEL_NETMON_NAME
};

// Needs no interpreter lock: of an exception that is Python's own, the class is not looked at.
inline uint32_t error_class(const std::exception_ptr& error) noexcept {
  if (!error) return NO_ERROR;
  try {
    std::rethrow_exception(error);
  }
#define OTEL_NETMON_CATCH(type, name) \
  catch (const c10::type&) { return OF_##type; }
  OTEL_NETMON_ERRORS(OTEL_NETMON_CATCH)
#undef OTEL_NETMON_CATCH
  catch (const pybind11::error_already_set&) { return OTHER; }
  catch (const std::exception&) { return RUNTIME_ERROR; }
  catch (...) { return OTHER; }
}

// What an exception says; nothing of one that is Python's own. Needs no interpreter lock either.
inline void say(Messages& messages, uint64_t ticket, const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const pybind11::error_already_set&) {
  } catch (const c10::Error& said) {
    messages.add(ticket, said.what_without_backtrace());
  } catch (const std::exception& said) {
    messages.add(ticket, said.what());
  } catch (...) {
  }
}

// The call ended: with an error, where there is one.
inline void finish(Ring& ring, uint64_t ticket, int64_t end, const std::exception_ptr& error, uint32_t flags = 0) noexcept {
  const uint32_t number = error_class(error);
  if (number != NO_ERROR) say(ring.messages, ticket, error);
  ring.finish(ticket, end, number, flags);
}

}  // namespace otel_netmon
