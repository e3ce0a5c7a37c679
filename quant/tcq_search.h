// The search for a path of trellis codes (formats/encodings/tcq.h): the M algorithm (Anderson and
// Mohan, 1984). The best `survivors` of all paths so far go on to the next column; of paths whose
// later windows are the same, one.
#pragma once

#include <cstdint>

namespace pith {

// Columns of a piece of a row, and with those of the next that its end is chosen by.
inline constexpr int64_t kTcqPiece = 64, kTcqColumns = 80;
inline constexpr int kMaxSurvivors = 256;

// A piece of a row. Its loss is the sum over columns j of cost[j] (t_j - q_j)^2,
//
//   t_j = target[j] + sum_{i<j} (original[i] - q_i) feedback[i, j]
//
// with q = scale (tcq_code - 126): plain rounding without feedback, and with it the loss of GPTQ
// (quant/gptq.h), where each path has the targets that its own errors lead to.
struct TcqSearch {
  int bits;
  int64_t columns;                  // at most kTcqColumns
  const float* original;            // [columns]
  const float* target;              // [columns]
  const float* scale;               // [columns]
  const float* cost;                // [columns]
  const float* feedback = nullptr;  // [columns, kTcqColumns]; null: none
  int survivors = 128;              // at most kMaxSurvivors
};
// window: that of the column before, or -1: there is none. windows [columns]. Returns the loss.
double search_windows(const TcqSearch& job, int32_t window, uint16_t* windows);

// A whole row without feedback, in pieces, each with a look at columns of the next.
void search_windows_of_row(int bits, int survivors, int64_t k, const float* x, const float* scale,
                           const float* cost, uint16_t* windows);

}  // namespace pith
