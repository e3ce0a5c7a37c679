// Trellis-coded quantization (Marcellin and Fischer, 1990) with a computed code (QTIP, Tseng et
// al., 2024, section 3.1): B bits a weight, B = 2, 3 or 4, that decode better than B bits by
// themselves.
//
//   kTcq  w = s * (tcq_code(window) - 126)
//
// The codes of a row are one stream of bits. The window of column i is bits [B i, B i + 16) of it:
// each weight brings B new bits and shares the others with the weights before it, so that an
// encoder has 2^16 numbers to choose from, on a path of 2^B branches a step. tcq_code() hashes a
// window to the sum of four numbers of 6 bits: near to a normal distribution, without a table.
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

// The reference encoder's path for a row: of all paths the best 16 go on from column to column.
// windows [k] of the values scale[i] (tcq_code - 126) near x [k]. quant/tcq_search.h finds better
// ones.
void search_row(int bits, int64_t k, const float* x, const float* scale, uint16_t* windows);

// The scale of a group of x [n] with weights of columns (null: 1) that fits its deviation.
float tcq_scale(int bits, const float* x, const float* weights, int64_t n);

}  // namespace pith
