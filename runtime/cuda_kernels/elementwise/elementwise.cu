// Norms, activations, Hadamard rotation, embedding rows: a block a token.
//
// bound  memory: inputs and outputs once (twice from the L2 cache where a maximum comes first)
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/gemm/quantize_activations.cuh"
#include "runtime/cuda_kernels/gemm/tile_codes.cuh"
#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {
namespace {

constexpr int kThreads = 256, kMaxThreads = 1024;

PITH_DEVICE float* workspace() { return reinterpret_cast<float*>(shared_memory()); }
constexpr int64_t kWorkspace = 32 * sizeof(float);

PITH_DEVICE float block_absmax(float v) { return block_reduce(v, workspace(), larger); }

// grid  x: tokens
template <class T, int kept>
PITH_KERNEL PITH_BLOCKS(kMaxThreads, 1) to_inputs_kernel(T a) {
  wait_for_previous();
  const int64_t t = block_x();
  const int64_t ldx = a.ldx > 0 ? a.ldx : a.n;
  const float* const x = a.x + t * ldx;
  const bool aligned = ldx % 4 == 0 && reinterpret_cast<uintptr_t>(a.x) % 16 == 0;
  const auto row = row_of_block<kept>(
      a.to.stride, [&](int64_t i, int) { return load_four(x, i, a.n, aligned); });
  write_inputs(a.to, t, block_absmax(row.absmax()), row);
}

// grid  x: tokens; a warp for a block of columns at a time
PITH_KERNEL round_inputs_kernel(RoundInputs a) {
  wait_for_previous();
  constexpr int64_t kBlock = 128;
  const float largest = a.floats ? 448.0f : 127.0f;
  const float* const x = a.x + block_x() * a.n;
  float* const y = a.y + block_x() * a.n;
  for (int64_t begin = warp() * kBlock; begin < a.n; begin += kThreads / 32 * kBlock) {
    const int64_t end = begin + kBlock < a.n ? begin + kBlock : a.n;
    float top = 0;
    for (int64_t i = begin + lane(); i < end; i += 32) top = larger(fabsf(x[i]), top);
    top = warp_reduce(top, larger);
    const float scale = code_scale(top, largest);
    for (int64_t i = begin + lane(); i < end; i += 32)
      y[i] = scale > 0 ? code_of(x[i], scale, a.floats) * scale : scale;
  }
}

// 1 / sqrt(mean of squares + eps), on every thread
template <class Row>
PITH_DEVICE float rms_factor(const Row& x, int64_t n, float eps) {
  float squares = 0;
  x.each([&](int64_t i, int at) {
    const Four f = x.at(i, at);
#pragma unroll
    for (int j = 0; j < 4; ++j) squares = fmaf(f.v[j], f.v[j], squares);
  });
  return 1.0f / sqrtf(block_reduce(squares, workspace(), add) / static_cast<float>(n) + eps);
}

// grid  x: tokens
template <class T, int kept>
PITH_KERNEL PITH_BLOCKS(kMaxThreads, 1) norm_to_inputs_kernel(T a) {
  const auto weights =
      row_of_block<kept>(a.to.stride, [&](int64_t i, int) { return load_four(a.weight, i, a.n); });
  wait_for_previous();
  const int64_t t = block_x();
  const float* const from = a.x + t * a.n;
  const auto x =
      row_of_block<kept>(a.to.stride, [&](int64_t i, int) { return load_four(from, i, a.n); });
  const float factor = rms_factor(x, a.n, a.eps);
  const auto normed = row_of_block<kept>(a.to.stride, [&](int64_t i, int at) {
    const Four v = x.at(i, at), w = weights.at(i, at);
    Four y;
#pragma unroll
    for (int j = 0; j < 4; ++j) y.v[j] = v.v[j] * factor * w.v[j];
    return y;
  });
  write_inputs(a.to, t, block_absmax(normed.absmax()), normed);
}

// grid  x: rows
template <class T, int kept>
PITH_KERNEL PITH_BLOCKS(kMaxThreads, 1) norm_kernel(T a) {
  const auto weights =
      row_of_block<kept>(a.n, [&](int64_t i, int) { return load_four(a.weight, i, a.n); });
  wait_for_previous();
  const float* const from = a.x + block_x() * a.n;
  float* const to = a.y + block_x() * a.n;
  const auto x = row_of_block<kept>(a.n, [&](int64_t i, int) { return load_four(from, i, a.n); });
  const float factor = rms_factor(x, a.n, a.eps);
  x.each([&](int64_t i, int at) {
    const Four f = x.at(i, at), w = weights.at(i, at);
    Four y = a.add ? load_four(to, i, a.n) : Four{};
#pragma unroll
    for (int j = 0; j < 4; ++j) y.v[j] = fmaf(f.v[j] * factor, w.v[j], y.v[j]);
    store_four(to, i, a.n, y);
  });
}

// grid  x: rows
PITH_KERNEL cap_kernel(Cap a) {
  wait_for_previous();
  float* const x = a.x + block_x() * a.n;
  for (int64_t i = thread_index(); i < a.n; i += kThreads) x[i] = capped(x[i], a.limit);
}

constexpr float kActivationLimit = 7;
PITH_DEVICE float activated(Activate how, float g) {
  constexpr float kLog2E = 1.44269504088896f;
  const auto sigmoid = [](float x) { return reciprocal_about(1.0f + exp2_about(-kLog2E * x)); };
  if (how == Activate::kSilu) return g * sigmoid(g);
  if (how == Activate::kGelu) return 0.5f * g * (1.0f + erff(g * 0.70710678118654752f));
  if (how == Activate::kGeluTanh) {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    return g * sigmoid(2 * 0.79788456080286536f * (g + 0.044715f * g * g * g));
  }
  if (how == Activate::kClamped) {
    const float low = g > kActivationLimit ? kActivationLimit : g;
    return low * sigmoid(1.702f * low);
  }
  return g;
}
PITH_DEVICE float of_up(Activate how, float u) {
  if (how != Activate::kClamped) return u;
  const float low = u > kActivationLimit ? kActivationLimit : u;
  return (low < -kActivationLimit ? -kActivationLimit : low) + 1;
}

// grid  x: tokens
template <class T, int kept>
PITH_KERNEL PITH_BLOCKS(kMaxThreads, 1) activate_to_inputs_kernel(T a) {
  wait_for_previous();
  const int64_t t = block_x();
  float* const gate = a.gate + t * a.n;
  const float* const up = a.up ? a.up + t * a.n : nullptr;
  const auto gates =
      row_of_block<kept>(a.to.stride, [&](int64_t i, int) { return load_four(gate, i, a.n); });
  const auto ups = row_of_block<kept>(
      a.to.stride, [&](int64_t i, int) { return up ? load_four(up, i, a.n) : Four{}; });
  const auto row = row_of_block<kept>(a.to.stride, [&](int64_t i, int at) {
    Four g = gates.at(i, at);
    const Four u = ups.at(i, at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      g.v[j] = activated(a.how, g.v[j]);
      if (up) g.v[j] *= of_up(a.how, u.v[j]);
    }
    return g;
  });
  const float top = block_absmax(row.absmax());
  write_inputs(a.to, t, top, row);
  row.each([&](int64_t i, int at) { store_four(gate, i, a.n, row.at(i, at)); });
}

// Bits [0, 32) of a row's trellis codes from `column` on.
PITH_DEVICE uint32_t tcq_bits_at(const TileWeight& w, int64_t row, int64_t column) {
  const int half = static_cast<int>(row / 8 % 2), bits = bits_of(w.format);
  const int64_t of_row = w.stages * 16;  // parts of 8 columns
  const auto part_at = [&](int64_t i) -> uint64_t {
    const int64_t at = row / 16 * w.stages + i / 16;
    if (i == of_row) return w.tails[(at - 1) * 8 + row % 8] >> (16 * half) & 0xffff;
    const int64_t p = i % 16 / 4, of_lane = row % 8 * 4 + i % 4;
    const auto* const low = static_cast<const uint32_t*>(w.low);
    if (bits == 4) return low[((at * 2 + p / 2) * 32 + of_lane) * 4 + p % 2 * 2 + half];
    const uint64_t first = low[(at * 32 + of_lane) * 4 + p] >> (16 * half) & 0xffff;
    if (bits == 2) return first;
    return first |
           uint64_t{static_cast<const uint8_t*>(w.high)[(at * 32 + of_lane) * 8 + 2 * p + half]}
               << 16;
  };
  const int64_t i = column / 8;
  return static_cast<uint32_t>((part_at(i) | part_at(i + 1) << (8 * bits)) >>
                               (bits * static_cast<int>(column % 8)));
}

// The number at [row, column], in f32 as the reference decoder has it.
PITH_DEVICE float value_at(const TileWeight& w, int64_t row, int64_t column) {
  const int64_t tile = row / 16, stage = column / kStageColumns,
                group = w.group_shift == kWholeRow ? 0 : column / 16 >> w.group_shift;
  const int r = static_cast<int>(row % 8), high_row = static_cast<int>(row / 8 % 2),
            in_step = static_cast<int>(column % 16), step = static_cast<int>(column % 128 / 16),
            of_lane = r * 4 + in_step / 4, pair = step * 4 + in_step % 4 / 2 * 2 + high_row;
  float scales[2];
  load_scales(w, tile, group, r, scales);
  const float scale = high_row ? scales[1] : scales[0];
  if (is_trellis(w.format)) {
    const auto window = static_cast<uint16_t>(tcq_bits_at(w, row, column));
    return scale * static_cast<float>(tcq_code(window) - kTcqZero);
  }
  const auto part = [&](const void* codes, int bits) {
    const int word = pair / (16 / bits), chunk_words = 2 * bits < 4 ? 2 * bits : 4;
    const int64_t at = ((tile * w.stages + stage) * (2 * bits / chunk_words) + word / chunk_words) *
                           32 * chunk_words +
                       of_lane * chunk_words + word % chunk_words;
    return static_cast<const uint32_t*>(codes)[at] >>
               (bits * (pair % (16 / bits)) + in_step % 2 * 16) &
           ((1u << bits) - 1);
  };
  const Parts parts = parts_of(w.format);
  uint32_t code = part(w.low, parts.low);
  if (parts.high > 0) code |= part(w.high, parts.high) << parts.low;
  if (w.format == NumberFormat::kF16) return half_float(static_cast<uint16_t>(code));
  if (w.format == NumberFormat::kBF16) return bf16_float(static_cast<uint16_t>(code));
  if (w.format == NumberFormat::kNf4) return scale * kNf4Floats[code];
  if (w.format == NumberFormat::kE2M1)
    return scale * half_float(static_cast<uint16_t>((code & 8) << 12 | (code & 7) << 9)) *
           kValueFactor<NumberFormat::kE2M1>;
  if (w.format == NumberFormat::kE4M3) return scale * e4m3_float(static_cast<uint8_t>(code));
  if (w.format == NumberFormat::kE5M2) return scale * half_float(static_cast<uint16_t>(code << 8));
  const int64_t at = ((tile * w.groups + group) * 8 + r) * 2 + high_row;
  const int32_t zero = w.zeros ? w.zeros[at] : w.zero;
  return scale * static_cast<float>(static_cast<int32_t>(code) - zero);
}

// grid  x: tokens
PITH_KERNEL embed_kernel(Embed a) {
  wait_for_previous();
  const int64_t t = block_x();
  for (int64_t i = thread_index(); i < a.w.k; i += block_threads())
    a.to[t * a.w.k + i] = a.scale * value_at(a.w, a.tokens[t], i);
}

// grid  x: rows
PITH_KERNEL gather_kernel(Gather a) {
  wait_for_previous();
  const int64_t t = block_x();
  for (int64_t i = thread_index(); i < a.n; i += kThreads)
    a.y[t * a.n + i] = a.x[a.rows[t] * a.n + i];
}

Grid rows(int64_t m) { return {m, 1, 1, kThreads, kWorkspace, true}; }

// A block a row of n numbers, which it keeps in registers if they are not too many. How a row is
// spread depends on n alone.
template <class T>
using RowKernel = void (*)(T);
template <class T>
Status run_rows(const RowKernel<T> (&kernels)[5], int64_t m, int64_t n, const T& a, Stream stream) {
  const int64_t fours = (n + 3) / 4,
                threads = fours < kMaxThreads ? (fours + 31) / 32 * 32 : kMaxThreads;
  const int64_t each = (fours + threads - 1) / threads;
  const int which = each == 1 ? 0 : each == 2 ? 1 : each <= 4 ? 2 : each <= 8 ? 3 : 4;
  return launch(kernels[which], {m, 1, 1, static_cast<int>(threads), kWorkspace, true}, stream, a);
}
template <class T>
Status run_inputs(const RowKernel<T> (&kernels)[5], const T& a, Stream stream) {
  if (a.to.stride % kStageColumns != 0 || a.to.stride < a.n)
    return refuse("quantize activations: stride %ld of %ld columns", a.to.stride, a.n);
  return run_rows(kernels, a.to.m, a.to.stride, a, stream);
}
template <class T>
Status run_to_inputs(const T& a, Stream stream) {
  return run_inputs<T>({to_inputs_kernel<T, 1>, to_inputs_kernel<T, 2>, to_inputs_kernel<T, 4>,
                        to_inputs_kernel<T, 8>, to_inputs_kernel<T, 0>},
                       a, stream);
}
template <class T>
Status run_norm_to_inputs(const T& a, Stream stream) {
  return run_inputs<T>(
      {norm_to_inputs_kernel<T, 1>, norm_to_inputs_kernel<T, 2>, norm_to_inputs_kernel<T, 4>,
       norm_to_inputs_kernel<T, 0>, norm_to_inputs_kernel<T, 0>},
      a, stream);
}
template <class T>
Status run_activate(const T& a, Stream stream) {
  return run_inputs<T>({activate_to_inputs_kernel<T, 1>, activate_to_inputs_kernel<T, 2>,
                        activate_to_inputs_kernel<T, 4>, activate_to_inputs_kernel<T, 0>,
                        activate_to_inputs_kernel<T, 0>},
                       a, stream);
}

}  // namespace

Status to_half(const ToHalf& a, Stream stream) { return run_to_inputs(a, stream); }
Status to_int8(const ToInt8& a, Stream stream) { return run_to_inputs(a, stream); }
Status norm_to_half(const NormToHalf& a, Stream stream) { return run_norm_to_inputs(a, stream); }
Status norm_to_int8(const NormToInt8& a, Stream stream) { return run_norm_to_inputs(a, stream); }
Status activate_to_half(const ActivateToHalf& a, Stream stream) { return run_activate(a, stream); }
Status activate_to_int8(const ActivateToInt8& a, Stream stream) { return run_activate(a, stream); }
Status round_inputs(const RoundInputs& a, Stream stream) {
  return launch(round_inputs_kernel, rows(a.m), stream, a);
}
Status norm(const Norm& a, Stream stream) {
  return run_rows<Norm>({norm_kernel<Norm, 1>, norm_kernel<Norm, 2>, norm_kernel<Norm, 4>,
                         norm_kernel<Norm, 0>, norm_kernel<Norm, 0>},
                        a.m, a.n, a, stream);
}
Status cap(const Cap& a, Stream stream) { return launch(cap_kernel, rows(a.m), stream, a); }
Status embed(const Embed& a, Stream stream) {
  return launch(embed_kernel, {a.m, 1, 1, kMaxThreads, kWorkspace, true}, stream, a);
}
Status gather(const Gather& a, Stream stream) {
  return launch(gather_kernel, rows(a.m), stream, a);
}

}  // namespace pith::cuda
