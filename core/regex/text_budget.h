// Limits the work that one text may cause in a tokenizer, whatever the number and nesting of its
// components. All normalizers, pre-tokenizers, decoders and patterns of one call of encode() or
// decode(), or of the added tokens when a tokenizer is made, share one budget.
//
// Bytes. No component may make more than 4 bytes for each byte of the text and 60 more for each of
// the first 256 KiB, and 64 KiB on top (honest ones: 11 bytes, U+FDFA under NFKC; 3 for each
// blank), and all of them together not more than 256 times the text and 1 MiB. Steps. A step is
// what PCRE2 counts against its match limit, where a match may have to go back. All patterns
// together may take 2,048 for each byte and 4 million on top (honest ones: below 50). Processor
// time, for what PCRE2 does not count, such as runs of one class: 2 s and 5 us a byte.
//
// Exceeding it is Error(kCorrupt) that names the file and the component. Not thread-safe: one
// object per call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pith {

class TextBudget {
 public:
  // Longest text, and longest word, that a tokenizer takes. A word is what its model sees at once:
  // all of the text where nothing cuts it. Models need up to 40 bytes for each of its bytes.
  static constexpr size_t kMaxTextBytes = size_t{1} << 30, kMaxWordBytes = size_t{64} << 20;

  TextBudget(std::string_view file, size_t text_bytes);

  // A component is making `bytes` bytes in all; cheap, for loops.
  void check_size(size_t bytes, const char* component) const {
    if (bytes > max_bytes_) too_long(component);
  }
  // A component took `in` bytes and made `out`.
  void charge_bytes(size_t in, size_t out, const char* component);

  uint64_t steps_left() const { return steps_left_; }
  uint64_t bytes_left() const { return bytes_left_; }
  void charge_steps(uint64_t steps, const std::string& pattern);
  // To be called now and then where no step is counted.
  void check_time(const std::string& pattern);

 private:
  [[noreturn]] void too_long(const char* component) const;
  [[noreturn]] void too_slow(const std::string& pattern) const;

  std::string file_;
  size_t text_bytes_;
  uint64_t max_bytes_, bytes_left_, steps_left_;
  double deadline_ = 0;
};

}  // namespace pith
