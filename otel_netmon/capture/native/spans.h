// Spans of plain calls, from templates that Python makes: numbers put between pieces of bytes. What a span is, Python
// alone knows; here it is known how numbers are written in text (JSON) and in binary (protobuf).
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>
#include <vector>

#include "plain.h"

namespace otel_netmon {

// What spans of one kind have in common: OPENING, before the id; NAME, before the times; before the sequence number,
// the algorithm bandwidth, the bus bandwidth; and CLOSING.
struct Template {
  enum Piece : size_t { OPENING, NAME, SEQUENCE_KEY, ALGBW_KEY, BUSBW_KEY, CLOSING, PIECES };
  std::array<std::string, PIECES> pieces;
  double factor = -1;  // of the bus bandwidth; negative: it has none
  bool is_known = false;
};

// Calls that follow one another, and what their spans have in common, but for their kinds.
struct Below {
  size_t first, count;
  uint64_t first_id;  // the others follow
  std::string before_id, after_id;
};

class SpanEncoder {
 public:
  explicit SpanEncoder(bool is_text) : is_text_(is_text) {}

  void set(uint32_t kind, Template one) {
    if (kind >= templates_.size()) templates_.resize(kind + 1);
    one.is_known = true;
    templates_[kind] = std::move(one);
  }

  // One span behind the other; nothing where a template is missing: `missing` has a call of each such kind. `epoch`
  // is what makes a time one since 1970.
  const std::string& encode(const Record* records, const std::vector<Below>& parts, int64_t epoch,
                            const std::string& between_times, std::vector<Record>& missing) {
    out_.clear();
    for (const Below& part : parts) {
      for (size_t at = part.first; at < part.first + part.count; ++at) {
        const auto same = [&](const Record& other) { return other[KIND] == records[at][KIND]; };
        if (!is_known(records[at][KIND])) {
          if (std::none_of(missing.begin(), missing.end(), same)) missing.push_back(records[at]);
        } else if (missing.empty()) {
          one(records[at], part, part.first_id + (at - part.first), epoch, between_times);
        }
      }
    }
    if (!missing.empty()) out_.clear();
    return out_;
  }

 private:
  bool is_known(uint64_t kind) const { return kind < templates_.size() && templates_[kind].is_known; }

  void one(const Record& record, const Below& below, uint64_t id, int64_t epoch, const std::string& between_times) {
    std::string& out = out_;
    const Template& of = templates_[record[KIND]];
    out += of.pieces[Template::OPENING];
    out += below.before_id;
    put_id(out, id);
    out += below.after_id;
    out += of.pieces[Template::NAME];
    put_fixed(out, uint64_t(int64_t(record[START]) + epoch));
    out += between_times;
    put_fixed(out, uint64_t(int64_t(record[END]) + epoch));
    out += of.pieces[Template::SEQUENCE_KEY];
    put_integer(out, record[SEQUENCE]);
    out += of.pieces[Template::ALGBW_KEY];
    if (record[SIZE] != 0) {
      double algbw = double(record[SIZE]) * 1e9 / double(int64_t(record[END] - record[START]));
      const double busbw = algbw * of.factor;
      put_double(out, rounded(algbw));
      out += of.pieces[Template::BUSBW_KEY];
      if (of.factor >= 0) put_double(out, rounded(busbw));
    }
    out += of.pieces[Template::CLOSING];
  }

  // As bandwidth.py rounds.
  static double rounded(double rate) {
    return rate > 1e6 ? rate + 4503599627370496.0 - 4503599627370496.0 : rate;
  }

  void put_id(std::string& out, uint64_t id) const {
    const int bits = is_text_ ? 4 : 8;
    for (int at = 64 - bits; at >= 0; at -= bits) {
      out += is_text_ ? "0123456789abcdef"[id >> at & 15] : char(id >> at);
    }
  }

  void put_fixed(std::string& out, uint64_t value) const {
    if (is_text_) return put_decimal(out, value);
    out.append(reinterpret_cast<const char*>(&value), 8);
  }

  void put_integer(std::string& out, uint64_t value) const {
    if (is_text_) return put_decimal(out, value);
    for (; value > 127; value >>= 7) out += char(value | 128);
    out += char(value);
  }

  void put_double(std::string& out, double value) const {
    if (!is_text_) {
      out.append(reinterpret_cast<const char*>(&value), 8);
    } else if (value < 9e15 && value == double(uint64_t(value))) {
      put_decimal(out, uint64_t(value));
      out += ".0";
    } else {
      char text[32];
#ifdef __cpp_lib_to_chars
      out.append(text, std::to_chars(text, text + sizeof text, value).ptr - text);
#else
      const int length = std::snprintf(text, sizeof text, "%.17g", value);
      std::replace(text, text + length, ',', '.');  // a locale's
      out.append(text, length);
#endif
    }
  }

  static void put_decimal(std::string& out, uint64_t value) {
    char text[20];
    out.append(text, std::to_chars(text, text + sizeof text, value).ptr - text);
  }

  const bool is_text_;
  std::vector<Template> templates_;
  std::string out_;  // kept: memory that is new each time costs more than what is written there
};

}  // namespace otel_netmon
