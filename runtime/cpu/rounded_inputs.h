// The inputs of a linear layer, rounded as formats/encodings/input.h defines it: as int8 codes with
// scales for products of integers, or as the f32 numbers that those stand for.
//
// Plain C++ for every instruction level, so that all levels multiply the same numbers. Threads
// share out tokens. Not thread-safe itself.
#pragma once

#include <vector>

#include "core/buffer.h"
#include "core/function_ref.h"
#include "formats/encodings/input.h"

namespace pith {

class RoundedInputs {
 public:
  // x [m, k] is looked at until the next call.
  void set(const InputEncoding& encoding, const float* x, int64_t m, int64_t k);
  // As int8, one scale for `block` columns of a token.
  void set_blocks(int64_t block, const float* x, int64_t m, int64_t k);

  const InputEncoding& encoding() const { return encoding_; }
  int64_t m() const { return m_; }
  int64_t k() const { return k_; }

  // Makes codes and scales of kI8 now; make(t) writes row t of x just before it is rounded.
  void round_rows(FunctionRef<void(int64_t t)> make);

  // Codes of kI8: token t at codes() + t * stride(), then 0 up to the next token. Made when first
  // asked for, and the scales with them.
  const int8_t* codes();
  int64_t stride() const { return stride_; }
  // The same plus 128, still with 0 behind.
  const uint8_t* unsigned_codes();
  // [ceil(k / block()), m]: block() columns of a token have one scale.
  const float* scales() const { return scales_.data(); }
  int64_t block() const { return block_; }
  // [ceil(k / width), m]: sums of the codes in pieces of `width` columns. Made when first asked
  // for.
  const int32_t* sums(int64_t width);

  // [m, k], scale * code as f32. Made when first asked for.
  const float* values();

 private:
  template <class F>
  void each_token(F f);
  template <class F>
  void each_block(int64_t token, F f);  // f(x, columns, column, scale)

  InputEncoding encoding_;
  const float* x_ = nullptr;
  int64_t m_ = 0, k_ = 0, stride_ = 0, block_ = 0;
  bool has_codes_ = false, has_values_ = false;
  Buffer<int8_t> codes_;
  Buffer<uint8_t> unsigned_codes_;
  struct Sums {
    int64_t width = 0;
    Buffer<int32_t> sums;
  };
  std::vector<Sums> sums_;  // the first `sums_count_` hold
  size_t sums_count_ = 0;
  Buffer<float> scales_, values_;
};

}  // namespace pith
