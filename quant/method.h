// The quantization methods that work row by row, and the table that lists all methods.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/encodings/encoding.h"

namespace pith {

// Rows [row, row + rows) of a matrix [n, k] to encode. All of it is plain data: a method's result
// depends on nothing else.
struct RowJob {
  const Encoding& encoding;
  int64_t n, k;
  int64_t row, rows;
  const float* w;  // [rows, k]
  const float*
      channel_weight;   // [k]: mean square of each input on calibration text; null: none ran
  float tensor_absmax;  // of the whole matrix, for fp8 with one scale
  MutablePlanes to;     // of the whole matrix
};

struct Method {
  const char* name;
  const char* summary;
  bool uses_inputs;  // is better with channel weights
  void (*encode)(const RowJob& job);
};

std::span<const Method> methods();
const Method& find_method(std::string_view name);  // Error(kUsage) listing them

// Plain rounding onto the range of each group: the baseline.
void encode_minmax(const RowJob& job);

// Rounding onto the grid that loses least: weighted least squares of scale and zero point over
// candidates. See rtn.cc.
void encode_rtn(const RowJob& job);

}  // namespace pith
