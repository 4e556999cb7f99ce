// What the calls that failed said, until Python asks. Plain C++: neither torch nor Python is needed.
#pragma once

#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace otel_netmon {

// Of the last ones. A lock, for they are rare.
class Messages {
 public:
  using All = std::vector<std::pair<uint64_t, std::string>>;

  // By the ticket of its call; before that ends.
  void add(uint64_t ticket, const char* said) noexcept {
    try {
      std::string text(said, strnlen(said, LONGEST));
      std::lock_guard<std::mutex> guard(lock_);
      if (all_.size() >= MOST) all_.erase(all_.begin());
      all_.emplace_back(ticket, std::move(text));
    } catch (...) {  // no memory
    }
  }

  // Those since the last time.
  All take() {
    All taken;
    std::lock_guard<std::mutex> guard(lock_);
    taken.swap(all_);
    return taken;
  }

  // In a forked child, which is alone: another thread of the parent's may have held the lock.
  void forget() {
    new (&lock_) std::mutex;
    new (&all_) All;  // it may have been half changed: leak it
  }

 private:
  static constexpr size_t MOST = 256, LONGEST = 1024;

  std::mutex lock_;
  All all_;
};

}  // namespace otel_netmon
