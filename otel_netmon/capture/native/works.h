// Works that have no future: ended by the caller's wait, or, if nobody waits, seen to by a thread that polls them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include <torch/csrc/distributed/c10d/Work.hpp>

#include "errors.h"
#include "ring.h"

namespace otel_netmon {

// gloo's sends and receives are such works. Held weakly: a work's destructor runs when the last weak reference goes,
// so the thread looks often while there are young ones. It needs no interpreter lock, and ends a second after the last.
class Works {
 public:
  struct Tracked {
    c10::weak_intrusive_ptr<c10d::Work> work;
    Ring* ring;
    uint64_t ticket;
    int64_t start;
    bool is_async;
    bool asks;  // whether isCompleted may be called
  };

  // Follow a work from now on. `start` is when its call began.
  void track(
      const c10::intrusive_ptr<c10d::Work>& work, Ring* ring, uint64_t ticket, int64_t start, bool is_async, bool asks) {
    std::lock_guard<std::mutex> guard(lock_);
    if (closed_) return;
    if (is_async) ring->in_flight.mark_unseen(ticket, true);
    tracked_.insert_or_assign(
        work.get(), Tracked{c10::weak_intrusive_ptr<c10d::Work>(work), ring, ticket, start, is_async, asks});
    count_.store(tracked_.size(), std::memory_order_relaxed);
    if (!running_) {
      if (thread_.joinable()) thread_.join();  // it ended a while ago
      running_ = true;
      thread_ = std::thread(&Works::run, this);
    }
  }

  // Its caller waits for it: the end of that wait is the end of the work.
  std::optional<Tracked> take(const c10d::Work* work) {
    if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
    std::lock_guard<std::mutex> guard(lock_);
    const auto found = tracked_.find(work);
    if (found == tracked_.end()) return std::nullopt;
    std::optional<Tracked> taken(std::move(found->second));
    tracked_.erase(found);
    count_.store(tracked_.size(), std::memory_order_relaxed);
    return taken;
  }

  void open() {
    std::lock_guard<std::mutex> guard(lock_);
    closed_ = false;
  }

  // Let go of everything, and wait for the thread. Not with the interpreter lock: a work may need it to be destroyed.
  void close() {
    std::unordered_map<const c10d::Work*, Tracked> dropped;
    std::thread thread;
    {
      std::lock_guard<std::mutex> guard(lock_);
      closed_ = true;
      dropped.swap(tracked_);
      count_.store(0, std::memory_order_relaxed);
      thread.swap(thread_);
      wake_.notify_all();
    }
    if (thread.joinable()) thread.join();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int64_t YOUNG = 1'000'000'000;
  static constexpr std::chrono::milliseconds OFTEN{1}, SELDOM{20};

  void run() {
    int64_t last = now();
    for (;;) {
      std::vector<Tracked> ended, all;
      std::vector<c10::intrusive_ptr<c10d::Work>> alive;
      {
        std::unique_lock<std::mutex> guard(lock_);
        const bool is_young = now() - last < YOUNG;
        wake_.wait_for(guard, is_young ? OFTEN : SELDOM, [this] { return closed_; });
        if (closed_ || (tracked_.empty() && !is_young)) {
          running_ = false;
          return;
        }
        for (auto one = tracked_.begin(); one != tracked_.end();) {
          last = std::max(last, one->second.start);
          c10::intrusive_ptr<c10d::Work> work = one->second.work.lock();
          if (!work) {  // its callers have let go of it
            ended.push_back(std::move(one->second));
            one = tracked_.erase(one);
            continue;
          }
          if (one->second.asks) alive.push_back(std::move(work));
          ++one;
        }
        count_.store(tracked_.size(), std::memory_order_relaxed);
      }
      for (const auto& work : alive) {
        bool is_completed = false;
        std::exception_ptr error;
        try {
          is_completed = work->isCompleted();
          if (is_completed) error = work->exception();
        } catch (...) {
        }
        if (!is_completed) continue;
        if (auto taken = take(work.get())) finish(*taken->ring, taken->ticket, now(), error, LATE);
      }
      for (const Tracked& one : ended) one.ring->finish(one.ticket, now(), NO_ERROR, LATE);
    }  // here, without the lock, destructors run
  }

  std::mutex lock_;
  std::condition_variable wake_;
  std::unordered_map<const c10d::Work*, Tracked> tracked_;
  std::atomic<size_t> count_{0};
  std::thread thread_;
  bool running_ = false, closed_ = false;
};

}  // namespace otel_netmon
