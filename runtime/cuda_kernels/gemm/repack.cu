// Planes of a file to the layout of weight_tiles.h, once at load.
//
// bound  memory: bytes of the planes, read and written once
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256;

// The `bits` of a part of the code at [row, column]; 0 beyond the matrix.
PITH_DEVICE uint32_t code_at(const RepackCodes& a, int64_t row, int64_t column) {
  if (row >= a.n || column >= a.k) return 0;
  if (a.from.row_major) {
    const int64_t at = row * a.k + column;
    return a.bits == 8 ? static_cast<const uint8_t*>(a.from.data)[at]
                       : static_cast<const uint16_t*>(a.from.data)[at];
  }
  const int64_t units = (a.k + 31) / 32;
  const int i = static_cast<int>(column % 32), in_word = 32 / a.bits, in_byte = 8 / a.bits;
  const int64_t line =
      (row / 16 * units + column / 32) * a.from.unit_words + a.from.first_word + i / in_word;
  const uint32_t word = static_cast<const uint32_t*>(a.from.data)[line * 16 + row % 16];
  return word >> (8 * (i % 4) + a.bits * (i / 4 % in_byte)) & ((1u << a.bits) - 1);
}

// to      words, see weight_tiles.h
// grid    x: a thread a word, 256 threads
PITH_KERNEL repack_codes_kernel(RepackCodes a) {
  const int64_t index = block_x() * kThreads + thread_index();
  const int words = 2 * a.bits, in_chunk = words < 4 ? words : 4, chunks = words / in_chunk;
  if (index >= a.tiles * a.stages * 32 * words) return;
  const int64_t chunk = index / in_chunk;  // [tile][stage][chunks][lane]
  const int lane_of = static_cast<int>(chunk % 32);
  const int64_t stage = chunk / 32 / chunks, row = stage / a.stages * 16 + lane_of / 4;
  const int word = static_cast<int>(chunk / 32 % chunks * in_chunk + index % in_chunk);
  const int pairs = 16 / a.bits;  // of a word
  uint32_t to = 0;
  for (int i = 0; i < pairs; ++i) {
    const int pair = word * pairs + i;
    const int64_t r = row + 8 * (pair % 2), column = stage % a.stages * kStageColumns +
                                                     pair / 4 * kStepColumns + 4 * (lane_of % 4) +
                                                     pair % 4 / 2 * 2;
    to |= code_at(a, r, column) << (a.bits * i);
    to |= code_at(a, r, column + 1) << (a.bits * i + 16);
  }
  static_cast<uint32_t*>(a.to)[index] = to;
}

// Bits [at, at + 32) of a row of trellis codes; 0 behind its words.
PITH_DEVICE uint32_t bits_at(const RepackTcq& a, int64_t row, int64_t at) {
  const auto word = [&](int64_t i) {
    return i < a.words ? a.from[(row / 16 * a.words + i) * 16 + row % 16] : 0;
  };
  const int shift = static_cast<int>(at % 32);
  return shift == 0 ? word(at / 32) : funnel_shift(word(at / 32), word(at / 32 + 1), shift);
}

// grid    x: a thread a lane's two steps, 256 threads
PITH_KERNEL repack_tcq_kernel(RepackTcq a) {
  const int64_t index = block_x() * kThreads + thread_index();  // [tile][stage][4 pairs][lane]
  if (index >= a.tiles * a.stages * 128) return;
  const int of_lane = static_cast<int>(index % 32), p = static_cast<int>(index / 32 % 4),
            t = of_lane % 4;
  const int64_t at = index / 128, row = at / a.stages * 16 + of_lane / 4,
                column = at % a.stages * kStageColumns + 32 * p + 8 * t;
  const uint32_t first = bits_at(a, row, a.bits * column),
                 second = bits_at(a, row + 8, a.bits * column);
  if (a.bits == 4) {
    uint32_t* const to = a.low + ((at * 2 + p / 2) * 32 + of_lane) * 4 + p % 2 * 2;
    to[0] = first;
    to[1] = second;
  } else {
    a.low[(at * 32 + of_lane) * 4 + p] = (first & 0xffff) | second << 16;
  }
  if (a.bits == 3) {
    uint8_t* const to = a.high + (at * 32 + of_lane) * 8 + 2 * p;
    to[0] = static_cast<uint8_t>(first >> 16);
    to[1] = static_cast<uint8_t>(second >> 16);
  }
  if (p == 0 && t == 0) {
    const int64_t end = a.bits * (at % a.stages + 1) * kStageColumns;
    a.tails[at * 8 + of_lane / 4] = (bits_at(a, row, end) & 0xffff) | bits_at(a, row + 8, end)
                                                                          << 16;
  }
}

// Where scales or zeros of a row and a group come from and go to; from < 0: nowhere.
struct PairPlace {
  int64_t from, to;
  int row;
};
template <class Repack>
PITH_DEVICE PairPlace pair_place(const Repack& a, int64_t index) {
  const int64_t unit = index / 16, group = unit % a.groups;
  const int r = static_cast<int>(index % 16);
  return {group < a.from_groups ? unit / a.groups * a.from_groups + group : -1,
          index - r + r % 8 * 2 + r / 8, r};
}

// grid    x: a thread an element, 256 threads
template <class T>
PITH_KERNEL repack_pairs_kernel(RepackPairs a) {
  const int64_t index = block_x() * kThreads + thread_index();
  if (index >= a.tiles * a.groups * 16) return;
  const PairPlace p = pair_place(a, index);
  static_cast<T*>(a.to)[p.to] =
      p.from < 0 ? T{0} : static_cast<const T*>(a.from)[p.from * 16 + p.row];
}

PITH_KERNEL repack_zeros_kernel(RepackZeros a) {
  const int64_t index = block_x() * kThreads + thread_index();
  if (index >= a.tiles * a.groups * 16) return;
  const PairPlace p = pair_place(a, index);
  uint32_t bits = 0;
  const int first = p.row * a.bits;
  if (p.from >= 0) {
    const uint8_t* const unit = static_cast<const uint8_t*>(a.from) + p.from * 2 * a.bits;
    bits = unit[first / 8];
    if (first / 8 + 1 < 2 * a.bits) bits |= static_cast<uint32_t>(unit[first / 8 + 1]) << 8;
  }
  a.to[p.to] = static_cast<uint8_t>(bits >> (first % 8) & ((1u << a.bits) - 1));
}

int64_t blocks(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

}  // namespace

Status repack_codes(const RepackCodes& a, Stream stream) {
  const bool whole = a.from.row_major;
  if (whole ? a.bits != 8 && a.bits != 16
            : a.bits != 8 && a.bits != 4 && a.bits != 2 && a.bits != 1)
    return refuse("repack_codes: parts of %ld bits", a.bits);
  return launch(repack_codes_kernel, {blocks(a.tiles * a.stages * 64 * a.bits), 1, 1, kThreads},
                stream, a);
}
Status repack_tcq(const RepackTcq& a, Stream stream) {
  if (a.bits < 2 || a.bits > 4) return refuse("repack_tcq: codes of %ld bits", a.bits);
  return launch(repack_tcq_kernel, {blocks(a.tiles * a.stages * 128), 1, 1, kThreads}, stream, a);
}
Status repack_pairs(const RepackPairs& a, Stream stream) {
  const Grid grid{blocks(a.tiles * a.groups * 16), 1, 1, kThreads};
  if (a.bytes == 1) return launch(repack_pairs_kernel<uint8_t>, grid, stream, a);
  if (a.bytes == 2) return launch(repack_pairs_kernel<uint16_t>, grid, stream, a);
  if (a.bytes == 4) return launch(repack_pairs_kernel<uint32_t>, grid, stream, a);
  return refuse("repack_pairs: scales of %ld bytes", a.bytes);
}
Status repack_zeros(const RepackZeros& a, Stream stream) {
  return launch(repack_zeros_kernel, {blocks(a.tiles * a.groups * 16), 1, 1, kThreads}, stream, a);
}

}  // namespace pith::cuda
