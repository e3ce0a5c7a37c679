// Repacking of weights from the planes of a file to weight_tiles.h (repack.cu). Pointers are to
// device memory.
#pragma once

#include <stdint.h>

namespace pith::cuda {

// Where codes come from: `row_major` elements of 1 or 2 bytes [n, k], or the words of a part of
// integers as they lie in a file (formats/encodings/int_group.h): [tile][unit][words of a
// unit][16], of which this part has those from `first_word` on.
struct CodeSource {
  const void* data;
  bool row_major;
  int32_t unit_words, first_word;
};
struct RepackCodes {
  CodeSource from;
  int32_t bits;  // of the part
  int64_t n, k, tiles, stages;
  void* to;
};
// Trellis codes of B bits, [tiles][words of a row][16] as they lie in a file
// (formats/encodings/tcq.h), to both parts and the tails.
struct RepackTcq {
  const uint32_t* from;
  int32_t bits;
  int64_t words, tiles, stages;
  uint32_t* low;
  uint8_t* high;  // B = 3
  uint32_t* tails;
};
// [tiles][from_groups][16] to [tiles][groups][8][2] of elements of `bytes` 1, 2 or 4; groups that
// are missing are 0.
struct RepackPairs {
  const void* from;
  int32_t bytes;
  int64_t tiles, from_groups, groups;
  void* to;
};
// The same of zeros, from units of 16 codes in 2 * bits bytes to bytes.
struct RepackZeros {
  const void* from;
  int32_t bits;
  int64_t tiles, from_groups, groups;
  uint8_t* to;
};

}  // namespace pith::cuda
