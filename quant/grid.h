// The inner loops of rounding to a grid, one set per instruction level from one text (grid_body.h).
// Sums run in 16 lanes in a fixed order and nothing is contracted, so that every level gives the
// same bits.
#pragma once

#include <cstdint>

#include "formats/encodings/number_format.h"

namespace pith {

inline constexpr int64_t kMaxLanes = 64;

// Columns [begin, end) of one group, for `lanes` rows of a matrix at a time (a multiple of 16, at
// most kMaxLanes). Arrays [columns][lanes] unless said otherwise; columns are counted from the
// begin of a block.
struct SweepJob {
  Levels levels;
  int64_t lanes, begin, end, reach;  // what a column misses is passed on to those before `reach`
  float* target;                     // what a column should become, now that others are rounded
  const float* original;
  const float* feedback;  // [columns, stride]: row p is what the error of p asks of later ones
  int64_t stride;
  const float* variance;                // [columns]: what a squared miss costs
  const float *scale, *inverse, *zero;  // [lanes]
  float top;
  float *codes, *error;         // out: level + zero, original - value
  float* loss;                  // [lanes], added to
  const float* kept = nullptr;  // 1, or 0 where the level has to be 0; null: 1 everywhere
};

// The same shape of work, for rounding again when all else is fixed.
struct DescentJob {
  Levels levels;
  int64_t lanes, begin, end, reach;
  float* gradient;    // (value - original) H, kept up to date up to `reach`
  float* value;       // in and out
  float* codes;       // out: level + zero
  const float* gram;  // [columns, stride]
  int64_t stride;
  const float *scale, *inverse, *zero;
  float top;
  const float* kept = nullptr;  // see SweepJob
};

// A step of the search for paths of trellis codes (tcq_search.h): what each path of `count` would
// lose with each of its 2^bits next codes.
//   out[p, b] = loss[p] + cost (target[p] - scale values[row[p] * 2^bits + b])^2
struct BranchJob {
  int bits;
  int64_t count;
  const float *loss, *target;  // [count]
  const uint16_t* row;         // [count]
  const float* values;
  float scale, cost;
  float* out;  // [count, 2^bits]
};
// The targets of later columns for the paths that go on: each has those of the path before it, and
// the error of its own last code.
//   to[p, i] = from[parent[p], i] + error[p] feedback[i],  i in [begin, columns), multiples of 16
struct AdvanceJob {
  int64_t count, begin, columns;
  const float* from;  // [.., columns]
  const uint8_t* parent;
  const float *error, *feedback;
  float* to;  // [count, columns]
};

struct GridKernels {
  // *low and *high of x and 0
  void (*range)(const float* x, int64_t n, float* low, float* high);
  // d = clamp(round(x * inverse), low, high), ties to even:  *xd = sum w x d,  *dd = sum w d^2
  void (*project)(const float* x, const float* w, int64_t n, float inverse, float low, float high,
                  float* xd, float* dd);
  // codes = clamp(round(x * inverse), low, high) - low
  void (*codes)(const float* x, int64_t n, float inverse, float low, float high, uint8_t* codes);
  // Rounds column after column and tells the later ones what each missed.
  void (*sweep)(const SweepJob& job);
  // Rounds each column to where the gradient says the loss is least, all others fixed.
  void (*descend)(const DescentJob& job);
  void (*branch)(const BranchJob& job);
  // The least of x [n], n a multiple of 16; how many are within a limit, and which ones, in order.
  float (*least)(const float* x, int64_t n);
  int64_t (*count_within)(const float* x, int64_t n, float limit);
  int64_t (*select_within)(const float* x, int64_t n, float limit, uint16_t* which);
  void (*advance)(const AdvanceJob& job);
};

const GridKernels& grid_kernels();  // of the level that the runtime chose

extern const GridKernels kGridScalar;
extern const GridKernels kGridAvx2;
extern const GridKernels kGridAvx512;

}  // namespace pith
