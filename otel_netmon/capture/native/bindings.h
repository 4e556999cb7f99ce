// What Python sees of capture.cpp, of which this is the end.
#pragma once

// Calls in flight, without the interpreter lock: how many were written to `records` (64 bytes each).
extern "C" __attribute__((visibility("default"))) size_t otel_netmon_in_flight(void* records, size_t most) {
  using namespace otel_netmon;
  Ring* const ring = state.ring.load(std::memory_order_acquire);
  size_t count = 0;
  if (ring != nullptr) {
    ring->in_flight.each([&](const Record& record) {
      if (count < most) static_cast<Record*>(records)[count++] = record;
    });
  }
  return count;
}

namespace otel_netmon {
namespace {

using Unlocked = py::call_guard<py::gil_scoped_release>;
using HookTable = std::vector<std::tuple<int, bool, std::vector<std::pair<int, int>>>>;

void tell(py::object first_call) {
  const auto before = py::reinterpret_steal<py::object>(state.first_call);
  state.first_call = first_call.is_none() ? nullptr : first_call.release().ptr();
}

// Begin: what hooks stand for (number, whether the output is the buffer, operations with their flags), and whom to
// tell of first calls. What an earlier one left in the ring is let go of.
void start(uint32_t capacity, const std::vector<double>& seconds, const std::vector<double>& sizes,
           const HookTable& table, py::object first_call, unsigned long main_thread) {
  Ring* ring = state.ring.load();
  if (ring == nullptr || state.capacity != capacity) {
    ring = new Ring(capacity, seconds, sizes);
  } else {
    std::vector<uint64_t> left;
    ring->in_flight.each([&](const Record& record) { left.push_back(record[TICKET]); });
    for (const uint64_t ticket : left) ring->abandon(ticket);
    Record record;
    while (ring->drain(record)) {
    }
    ring->tally.reset();
  }
  state.capacity = capacity;
  state.hooks = {};
  for (const auto& [number, is_output, operations] : table) {
    Hook& hook = state.hooks.at(number);
    hook.is_output = is_output;
    hook.has_variants = operations.size() > 1;
    for (size_t at = 0; at < operations.size() && at < hook.operations.size(); ++at) {
      hook.operations[at] = {uint8_t(operations[at].first), uint8_t(operations[at].second)};
    }
    hook.is_known = !operations.empty();
  }
  tell(std::move(first_call));
  state.main_thread = main_thread;
  state.announce = true;
  state.works->open();
  state.ring = ring;
  state.active = true;
}

// Have calls written to a file as well, from `offset` on, until `stop`.
void keep_last_calls(int file, off_t offset) {
  if (Ring* const ring = state.ring.load()) ring->last_calls = new LastCalls(file, offset);
}

void stop() {
  state.active = false;
  if (Ring* const ring = state.ring.load()) ring->last_calls = nullptr;
  tell(py::none());
  py::gil_scoped_release unlocked;  // the thread that is waited for may need the lock to destroy a work
  state.works->close();
}

void forget_parent(unsigned long main_thread) {
  new (state.lock) std::mutex;
  state.works = new Works;  // its thread is the parent's, and its lock may be held there
  state.plain = new PlainKinds;  // it may have been half changed: leak it
  calls.forget();
  latest.expect({});
  state.main_thread = main_thread;
  state.blocked = 0;
  state.errors = 0;
  state.announce = true;
  if (Ring* ring = state.ring.load()) ring->forget();
}

py::bytes drain(size_t most) {
  Ring* const ring = state.ring.load();
  std::string bytes;
  Record record;
  bytes.reserve(std::min(most, ring->waiting()) * sizeof(Record));
  for (size_t count = 0; count < most && ring->drain(record); ++count) {
    bytes.append(reinterpret_cast<const char*>(record.data()), sizeof(Record));
  }
  return bytes;
}

py::tuple row_of(const Distribution& one) { return py::make_tuple(one.counts, one.sums, one.least, one.greatest); }

py::bytes bytes_of(const std::vector<Record>& records) {
  return {reinterpret_cast<const char*>(records.data()), records.size() * sizeof(Record)};
}

// The plain calls and the others of those that ended, see plain.h.
py::tuple take_plain(size_t most, const std::vector<uint64_t>& named) {
  std::vector<Record> plain, others;
  state.plain->take(*state.ring.load(), most, named, plain, others);
  return py::make_tuple(bytes_of(plain), bytes_of(others));
}

// Records of plain calls, `count` from the `first` on.
const Record* records_in(const py::bytes& bytes, size_t first, size_t count) {
  const std::string_view all = bytes;
  if ((first + count) * sizeof(Record) > all.size()) throw py::index_error();
  return reinterpret_cast<const Record*>(all.data()) + first;
}

template <typename Number>
py::bytes column(const std::vector<Number>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Number)};
}

py::list series(const py::bytes& bytes, size_t first, size_t count) {
  const Tally& tally = state.ring.load()->tally;
  py::list rows;
  for (const Series& one : state.plain->series(records_in(bytes, first, count), count, tally.seconds, tally.sizes)) {
    rows.append(py::make_tuple(one.kind, one.last_sequence, column(one.ends), column(one.sizes), column(one.durations),
                               row_of(one.seconds), row_of(one.bytes)));
  }
  return rows;
}

py::tuple summary(const py::bytes& bytes, size_t first, size_t count, int64_t start, int64_t end, size_t most) {
  const Summary all = state.plain->summary(records_in(bytes, first, count), count, start, end, most);
  py::list rows;
  for (const Series& one : all.series) {
    rows.append(py::make_tuple(one.kind, one.calls, one.size, one.duration, one.last_sequence));
  }
  return py::make_tuple(all.first, all.busy, all.issuing, rows, all.places, all.afters, all.durations);
}

// The spans of plain calls, but for so many bytes of the first; or none, and records for which a template is missing.
// `parts`: see `Below`.
py::tuple encode(SpanEncoder& encoder, const py::bytes& bytes, int64_t epoch, const std::string& between_times,
                 size_t skipped, const std::vector<std::tuple<size_t, size_t, uint64_t, std::string, std::string>>& parts) {
  std::vector<Below> below;
  for (const auto& [first, count, first_id, before_id, after_id] : parts) {
    records_in(bytes, first, count);
    below.push_back({first, count, first_id, before_id, after_id});
  }
  std::vector<Record> missing;
  const std::string& spans = encoder.encode(records_in(bytes, 0, 0), below, epoch, between_times, missing);
  skipped = std::min(skipped, spans.size());
  return py::make_tuple(py::bytes(spans.data() + skipped, spans.size() - skipped), bytes_of(missing));
}

py::bytes in_flight() {
  std::string bytes;
  state.ring.load()->in_flight.each([&](const Record& record) {
    bytes.append(reinterpret_cast<const char*>(record.data()), sizeof(Record));
  });
  return bytes;
}

py::list tally() {
  py::list rows;
  for (const auto& [key, one] : state.ring.load()->tally.take()) {
    rows.append(py::make_tuple(std::get<0>(key), std::get<1>(key), std::get<2>(key), std::get<3>(key),
                               row_of(one.seconds), row_of(one.sizes)));
  }
  return rows;
}

// What calls that failed said, by their tickets; bytes, for it may be no text.
py::dict messages() {
  py::dict said;
  for (const auto& [ticket, text] : state.ring.load()->messages.take()) said[py::int_(ticket)] = py::bytes(text);
  return said;
}

py::tuple take_errors() {
  std::lock_guard<std::mutex> guard(*state.lock);
  const uint64_t count = state.errors;
  state.errors = 0;
  return py::make_tuple(count, count == 0 ? std::string() : state.first_error);
}

void hook(const c10::intrusive_ptr<c10d::ProcessGroup>& process_group, int64_t id, uint32_t number, uint64_t size,
          const std::shared_ptr<Counter>& sequence) {
  const auto group = std::make_shared<Group>(number, size, sequence);
  process_group->registerPreHook(id, [group](const c10d::PreHookArgs& args) { before_call(*group, args); });
  process_group->registerPostHook(id, [group](const c10d::PostHookArgs& args) { after_call(*group, args); });
}

// torch's element types by their numbers; None for those that Python has not.
py::list dtypes() {
  py::list found;
  for (int number = 0; number < int(at::ScalarType::NumOptions); ++number) {
    try {
      found.append(py::reinterpret_borrow<py::object>(
          reinterpret_cast<PyObject*>(torch::getTHPDtype(at::ScalarType(number)))));
    } catch (...) {
      found.append(py::none());
    }
  }
  return found;
}

// Made as pybind makes torch's own: a method, without the interpreter lock, with its errors.
py::object make_wait(const py::object& work_class, const py::object& original) {
  py::options options;
  options.disable_function_signatures();  // torch's is in its text
  static const std::string doc = py::cast<std::string>(py::str(original.attr("__doc__")));
  return py::cpp_function(&wait, py::name("wait"), py::is_method(work_class), py::arg("timeout") = kNoTimeout,
                          Unlocked(), doc.c_str());
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m, py::mod_gil_not_used()) {
  py::class_<Counter, std::shared_ptr<Counter>>(m, "Counter")
      .def(py::init<int64_t>())
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &Counter::next)
      .def_property_readonly("last", [](const Counter& self) { return self.last.load(); });
  m.attr("RECORD_BYTES") = sizeof(Record);
  m.attr("MOST_KINDS") = PlainKinds::MOST;
  m.attr("ERRORS") = std::vector<std::string>(std::begin(ERROR_NAMES), std::end(ERROR_NAMES));
  m.def("self_test", &self_test, Unlocked());
  m.def("start", &start);
  m.def("keep_last_calls", &keep_last_calls);
  m.def("stop", &stop);
  m.def("forget_parent", &forget_parent);
  m.def("hook", &hook, Unlocked());
  m.def("drain", &drain);
  m.def("take_plain", &take_plain);
  m.def("plain_kinds", [] { return state.plain->size(); });
  m.def("plain_kind", [](uint32_t number) {
    const auto kind = state.plain->of(number);
    return py::bytes(reinterpret_cast<const char*>(kind.data()), sizeof kind);
  });
  m.def("exclude_kind", [](uint32_t number) { state.plain->exclude(number); });
  m.def("forget_kinds", [] { *state.plain = PlainKinds(); });
  m.def("series", &series);
  m.def("summary", &summary);
  py::class_<SpanEncoder>(m, "SpanEncoder")
      .def(py::init<bool>())
      .def("set",
           [](SpanEncoder& self, uint32_t kind, double factor, const std::array<std::string, Template::PIECES>& pieces) {
             self.set(kind, {pieces, factor});
           })
      .def("encode", &encode);
  m.def("waiting", [] { return state.ring.load()->waiting(); });
  m.def("in_flight", &in_flight);
  m.def("abandon", [](uint64_t ticket) { return state.ring.load()->abandon(ticket); });
  m.def("overwritten", [] { return state.ring.load()->tally.count(); });
  m.def("tally", &tally);
  m.def("take_errors", &take_errors);
  m.def("messages", &messages);
  m.def("close_calls", [] {  // of this thread
    calls.fail_all();
    latest.forget();
  });
  m.def("set_boundary", [](int64_t boundary) { state.boundary = boundary; });
  m.def("blocked", [] { return state.blocked.load(); });
  m.def("dtypes", &dtypes);
  m.def("device_name", [](int type) { return c10::DeviceTypeName(c10::DeviceType(type), true); });
  m.def("make_wait", &make_wait);
}

}  // namespace otel_netmon
