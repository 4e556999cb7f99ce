// Hooks on torch's process groups (torch >= 2.14) that record each call without the interpreter lock.
//
// No exception leaves a hook, a callback or the polling thread. Everything here that has a state is leaked: completions
// may come from the backends' threads at any time, also while the process ends.

#include <pthread.h>

#include <mutex>
#include <string>
#include <typeinfo>

#include <pybind11/chrono.h>
#include <pybind11/stl.h>
#include <torch/csrc/DynamicTypes.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/utils/pybind.h>

#include "calls.h"
#include "errors.h"
#include "ring.h"
#include "self_test.h"
#include "spans.h"
#include "works.h"

namespace otel_netmon {
namespace {

constexpr int64_t AT_ONCE = 1'000'000, BLOCKED = 100'000;
// Nanoseconds. A wait that came later than the first and took less than the second found a work that was complete.

struct State {
  std::atomic<bool> active{false};
  std::atomic<Ring*> ring{nullptr};
  uint32_t capacity = 0;
  std::array<Hook, 256> hooks;
  std::atomic<int64_t> boundary{0};
  std::atomic<bool> announce{false};  // whether Python is to be told of the next call
  PyObject* first_call = nullptr;     // told of a group's first call, and of the first at all; under Python's lock
  std::atomic<unsigned long> main_thread{0};
  std::atomic<int64_t> blocked{0};
  Works* works = new Works;
  PlainKinds* plain = new PlainKinds;  // used under Python's lock, or by one thread that holds another
  std::mutex* lock = new std::mutex;
  uint64_t errors = 0;
  std::string first_error;
};

State& state = *new State;
thread_local Calls calls;

struct Followed {
  const c10d::Work* work = nullptr;
  Ring* ring = nullptr;
  uint64_t ticket = 0;
  bool is_async = false;
  bool is_complete = false;     // when the call returned
  bool ends_with_wait = false;  // nothing else will tell
};

// What the next wait of this thread is most likely for.
struct Latest : Followed {
  ~Latest() { forget(); }

  void expect(const Followed& followed) { static_cast<Followed&>(*this) = followed; }

  // Nobody has waited: when it ended is not known.
  void forget() noexcept {
    if (ends_with_wait) ring->finish(ticket, now(), NO_ERROR, LATE);
    expect({});
  }
};
thread_local Latest latest;

void failure(const char* what) noexcept {
  std::lock_guard<std::mutex> guard(*state.lock);
  if (state.errors++ == 0) {
    try {
      state.first_error = what;
    } catch (...) {
    }
  }
}

void current_failure() noexcept {
  try {
    throw;
  } catch (const std::exception& error) {
    failure(error.what());
  } catch (...) {
    failure("an exception of no standard class");
  }
}

// The one time for each group that a hook needs the interpreter lock.
void tell_first_call(Group& group, bool is_first) {
  if (!Py_IsInitialized() || Py_IsFinalizing()) return;
  py::gil_scoped_acquire lock;
  try {
    if (state.first_call == nullptr) return;
    const auto told = py::reinterpret_borrow<py::object>(state.first_call);
    const py::object shared = told(group.number, is_first);
    if (!shared.is_none() && !group.shared.load()) {
      group.keeps_shared = shared.cast<std::shared_ptr<Counter>>();
      group.shared.store(group.keeps_shared.get(), std::memory_order_release);
    }
  } catch (...) {
    current_failure();
  }
}

uint64_t bytes_of(const at::Tensor& tensor) {
  if (tensor.layout() == at::kStrided) return tensor.nbytes();
  return (tensor.is_sparse() ? tensor._values() : tensor.values()).nbytes();
}

void before_call(Group& group, const c10d::PreHookArgs& args) noexcept {
  if (!state.active.load(std::memory_order_acquire)) return;
  try {
    const Hook& hook = state.hooks[uint8_t(args.name)];
    if (!hook.is_known) return;
    if (!group.is_placed.load(std::memory_order_acquire)) {
      tell_first_call(group, false);
      group.is_placed.store(true, std::memory_order_release);
    }
    Operation operation = hook.operations[0];
    Record record{};
    if (!(operation.flags & IS_P2P)) {
      // Drawn before anything that can fail: one that is skipped on one rank would shift all that follow.
      if (Counter* shared = group.shared.load(std::memory_order_acquire)) shared->next();
      record[SEQUENCE] = group.sequence->next();
    }
    record[START] = now();
    const auto& tensors = hook.is_output ? args.output_tensors : args.input_tensors;
    const size_t count = tensors.size();
    bool is_even = true;
    if (hook.has_variants) {
      const size_t others = (hook.is_output ? args.input_tensors : args.output_tensors).size();
      if (count != 1 || others > 1) operation = hook.operations[count == 1 || others == 1 ? 1 : 2];
      is_even = !(operation.flags & SPLITS_UNKNOWN);
    }
    uint64_t size = 0;
    int8_t dtype = -1, device = -1;
    uint8_t flags = (args.async_op ? ASYNC : 0) | ON_HOST;
    if (count > 0) {
      const at::Tensor& first = tensors[0];
      dtype = int8_t(first.scalar_type());
      device = int8_t(first.device().type());
      if (!first.is_cpu()) flags &= ~ON_HOST;
      for (const at::Tensor& tensor : tensors) {
        size += bytes_of(tensor);
        if (tensor.scalar_type() != first.scalar_type()) dtype = -1;
        if (operation.flags & HAS_SPLITS && count > 1) is_even = is_even && tensor.numel() == first.numel();
      }
      if (operation.flags & IS_SHARE) size *= group.size;
    }
    if (is_even) flags |= EVEN;
    record[BOUNDARY] = state.boundary.load(std::memory_order_relaxed);
    record[SIZE] = size;
    record[KIND] = kind_of(group.number, operation.number, dtype, device, flags);
    Ring* ring = state.ring.load(std::memory_order_acquire);
    const uint64_t ticket = ring->begin(record);
    calls.push({group.number, args.op_id, ring, ticket, int64_t(record[START]), flags,
                bool(operation.flags & IS_P2P), count > 0});
    if (state.announce.load(std::memory_order_relaxed) && state.announce.exchange(false)) tell_first_call(group, true);
  } catch (...) {
    current_failure();
  }
}

// Works that are written in Python need the interpreter lock for everything.
bool is_pythons(const c10d::Work& work) { return std::string(typeid(work).name()).find("Py") != std::string::npos; }

void follow(Group& group, const Calls::Call& call, const c10::intrusive_ptr<c10d::Work>& work) {
  Ring* const ring = call.ring;
  const uint64_t ticket = call.ticket;
  c10::intrusive_ptr<c10::ivalue::Future> future;
  if (!call.is_p2p || group.p2p_has_futures.load(std::memory_order_relaxed)) {
    try {
      future = work->getFuture();
    } catch (...) {
      if (call.is_p2p) group.p2p_has_futures.store(false, std::memory_order_relaxed);
    }
  }
  // A call without tensors on a device's backend: its future completes when the work is enqueued.
  const bool is_enqueued = future && !call.has_tensors && !future->devices().empty();
  if (future && !is_enqueued) {
    const auto completed = [ring, ticket](c10::ivalue::Future& done) noexcept {
      const int64_t end = now();
      finish(*ring, ticket, end, done.hasError() ? done.exception_ptr() : nullptr);
    };
    latest.expect({work.get(), ring, ticket, bool(call.flags & ASYNC), future->completed()});
    if (latest.is_complete) {
      completed(*future);
    } else {
      future->addCallback(completed, /*uses_future=*/false);
    }
  } else if (!is_pythons(*work)) {
    state.works->track(work, ring, ticket, call.start, call.flags & ASYNC, !is_enqueued);
  } else if (call.flags & ASYNC) {
    ring->finish(ticket, now(), NO_ERROR, LATE);
  } else {
    ring->in_flight.mark_unseen(ticket, true);
    latest.expect({.work = work.get(), .ring = ring, .ticket = ticket, .ends_with_wait = true});
  }
}

void after_call(Group& group, const c10d::PostHookArgs& args) noexcept {
  Calls::Call call;
  latest.forget();
  if (!calls.pop(group.number, args.op_id, call) || call.ticket == 0) return;
  try {
    if (args.work && call.flags & ON_HOST && state.active.load(std::memory_order_acquire)) {
      follow(group, call, args.work);
    } else {  // on a device the times are of the call alone
      call.ring->finish(call.ticket, now());
    }
  } catch (...) {
    current_failure();
    call.ring->finish(call.ticket, now(), NO_ERROR, LATE);
  }
}

// In place of torch's own `Work.wait`, which is no more than the call inside.
bool wait(c10d::Work& work, std::chrono::milliseconds timeout) {
  const auto tracked = state.works->take(&work);
  Followed followed;
  if (!tracked && latest.work == &work) {
    if (latest.is_complete) return work.wait(timeout);  // it does not block
    followed = latest;
    latest.expect({});  // a wait that is written in Python may make calls
  }
  const bool is_end = tracked || followed.ends_with_wait;
  Ring* const ring = tracked ? tracked->ring : followed.ring;
  const uint64_t ticket = tracked ? tracked->ticket : followed.ticket;
  if (is_end) ring->in_flight.mark_unseen(ticket, false);
  const int64_t since = now();
  bool result;
  try {
    result = work.wait(timeout);
  } catch (...) {
    if (is_end || (followed.work && !followed.is_async)) {
      finish(*ring, ticket, now(), std::current_exception());
    }
    throw;
  }
  const int64_t end = now();
  if (static_cast<unsigned long>(pthread_self()) == state.main_thread.load(std::memory_order_relaxed)) {
    state.blocked.fetch_add(end - since, std::memory_order_relaxed);
  }
  if (is_end) {
    const bool was_late = tracked && tracked->is_async && since - tracked->start > AT_ONCE && end - since < BLOCKED;
    ring->finish(ticket, end, NO_ERROR, was_late ? LATE : 0);
  }
  return result;
}

}  // namespace
}  // namespace otel_netmon

#include "bindings.h"
