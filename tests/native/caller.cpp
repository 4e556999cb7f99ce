// Threads that Python does not know, which call collectives until the interpreter is no more.

#include <atomic>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/utils/pybind.h>

namespace {

std::atomic<bool> stopping{false};
std::atomic<long> made{0};
std::vector<std::thread>& threads = *new std::vector<std::thread>;

void stop() {
  stopping = true;
  for (std::thread& thread : threads) thread.join();
}

void call_from_a_thread(const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  static const int registered = Py_AtExit(&stop);  // the last thing of the interpreter's end
  (void)registered;
  threads.emplace_back([group] {
    std::vector<at::Tensor> tensors{at::ones({64})};
    for (long call = 0; !stopping; ++call) {
      const auto work = group->allreduce(tensors);
      if (call % 4) work->wait();
      ++made;
    }
  });
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("call_from_a_thread", &call_from_a_thread);
  m.def("made", [] { return made.load(); });
}
