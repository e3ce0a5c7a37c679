// Trellis-coded quantization (Marcellin and Fischer, 1990) with a computed code (QTIP, Tseng et al.,
// 2024, section 3.1): B bits a weight, B = 2, 3 or 4, that decode better than B bits by themselves.
//
//   kTcq  w = s * (tcq_code(window) - 126)
//
// The codes of a row are one stream of bits. The window of column i is bits [B i, B i + 16) of it:
// each weight brings B new bits and shares the others with the weights before it, so that an encoder
// has 2^16 numbers to choose from, on a path of 2^B branches a step. tcq_code() hashes a window to
// the sum of four numbers of 6 bits: near to a normal distribution, without a table.
//
// Planes as those of kInt of B bits (int_group.h), but for
//
//   kCodes      [ceil(n/16), B ceil(k/32) + 1, 16] words of 32 bits, little-endian: bits [32 j,
//               32 j + 32) of a row are word j of its row in the tile. The last line is there for
//               the end of the last window; bits behind it are 0.
#pragma once

#include <cstdint>
#include <span>

#include "formats/encodings/int_group.h"
#include "formats/encodings/tcq_code.h"

namespace pith {

inline constexpr float kTcqDeviation = 36.97f;  // of tcq_code() - 126 over all windows

// A row from the windows [k] of its columns, each of which continues the one before.
void store_windows(const GroupLayout& layout, MutablePlanes to, int64_t row,
                   std::span<const uint16_t> windows);
// codes [k], and 0 behind them up to a multiple of 32
void load_tcq_codes(const Weight& w, const GroupLayout& layout, int64_t row, uint8_t* codes);

// One search for the path of a piece of a row that loses least,
//
//   sum over columns j of cost[j] (t_j - q_j)^2,  t_j = target[j] + sum_{i<j} (original[i] - q_i) feedback[i, j]
//
// with q = scale (tcq_code - 126): plain rounding without feedback, and with it the loss of GPTQ
// (quant/gptq.h). The M algorithm (Anderson and Mohan, 1984): of all paths so far the best
// `survivors` go on; of paths with the same windows from here on, one.
struct TcqSearch {
  int bits;
  int64_t columns;                  // at most kTcqColumns
  const float* original;            // [columns]
  const float* target;              // [columns]
  const float* scale;               // [columns]
  const float* cost;                // [columns], or null: 1
  const float* feedback = nullptr;  // [columns, stride]
  int64_t stride = 0;
  int survivors = 128;  // at most kTcqSurvivors
};
// Columns of a piece of a row, and with those of the next that its end is chosen by.
inline constexpr int64_t kTcqPiece = 64, kTcqColumns = 80;
inline constexpr int kTcqSurvivors = 256;
// window: that of the column before, or -1: there is none. windows [columns]. Returns the loss.
double search_windows(const TcqSearch& job, int32_t window, uint16_t* windows);

// A whole row without feedback, in pieces, each with a look at columns of the next: the values
// scale[i] (tcq_code - 126) nearest to x [k]. cost [k] or null.
void search_row(int bits, int survivors, int64_t k, const float* x, const float* scale,
                const float* cost, uint16_t* windows);

// The scale of a group of x [n] with weights of columns (null: 1) that fits its deviation.
float tcq_scale(int bits, const float* x, const float* weights, int64_t n);

}  // namespace pith
