// GPTQ on the device (quant/gptq.h has the method and its names). All of it is about some rows of
// a weight, columns in the order of their rounding ("places"), each row scaled by a power of two:
// matrices are [places, rows], so that neighbouring threads have neighbouring rows.
#pragma once

#include <stdint.h>

#include "formats/encodings/number_format.h"

namespace pith::cuda {

struct RoundedRows {
  int64_t rows, k;
  Levels levels;
  int32_t bits;  // of integers
  bool symmetric;
  NumberFormat scales;      // as they are stored: kF32, kF16 or kBF16
  const int32_t* group;     // [k]: which group a place belongs to; it does not fall
  const int32_t* exponent;  // [rows]: a row is its numbers here times 2^that
  const float* original;    // [k, rows]
  float* error;             // [k, rows]: original - value
  float* codes;             // [k, rows]: code, or number of the float type
  float* scale;             // [groups, rows]
  float* zero;              // [groups, rows]
};

// original = w[rows, k] in places and by the exponents that are found.
struct LoadRows {
  const float* w;
  int64_t rows, k;
  const int32_t* order;  // [k]: column at each place
  int32_t* exponent;
  float* original;
};

// Rounds places [begin, end), at most kMaxPlaces. target [end - begin, rows] is what the errors of
// places before `begin` add to the original; feedback [k, k] and variance [k] are those of
// UnitUpper. Scales are there already, or come from the range of each group, or from a search
// (group_search.h).
enum class ScaleFrom : int32_t { kGiven, kRange, kSearch };
inline constexpr int64_t kMaxPlaces = 128;
struct Sweep {
  RoundedRows r;
  int64_t begin, end;
  ScaleFrom from;
  const float* target;
  const float* feedback;
  const float* variance;
};

// Rounds each place again to where the loss is least with all others as they are. gradient [end -
// begin, rows] is that of the loss, gram [k, k].
struct Descend {
  RoundedRows r;
  int64_t begin, end;
  const float* gradient;
  const float* gram;
};

// to = codes - zeros; where `to` is null, error = original - scale (codes - zero).
struct FromCodes {
  RoundedRows r;
  float* to;
};

// The scales of each row that lose least for its codes, where that lowers the loss: normal [groups,
// groups, rows] s = right [groups, rows], of which the triangle of columns not before rows is
// read. All of normal, right and next [groups, rows] is lost.
struct Refit {
  RoundedRows r;
  int64_t groups;
  double* normal;
  double* right;
  double* next;
  double* diagonal;  // [groups, rows]: workspace
};

}  // namespace pith::cuda
