#include "runtime/cuda/gpu_gemm.h"

#include <algorithm>

#include "runtime/cuda_kernels/gemm/gemm_plan.h"

namespace pith {
namespace {

using cuda::Ops;

cuda::TileTarget target_of(const GpuLinear& on, MatrixRef<float> y) {
  return {on.tiles(), y.data, y.columns, on.bias.data<float>()};
}

}  // namespace

void GpuGemm::run(const Linear& linear, MatrixRef<float> x, MatrixRef<float> y, bool accumulate) {
  const GemmTarget to[] = {{&linear, y}};
  if (in_int8(to)) return run_int8(to, to_int8(linear, x), accumulate);
  run(linear, to_half(linear, x), y, accumulate);
}

bool GpuGemm::rounded_alike(Targets to) {
  return std::ranges::all_of(
      to, [&](const GemmTarget& t) { return t.linear->input == to.front().linear->input; });
}

bool GpuGemm::in_int8(Targets to) const {
  const cuda::TileWeight* first = nullptr;
  return to.size() <= cuda::kMaxTargets && std::ranges::all_of(to, [&](const GemmTarget& t) {
           const InputEncoding& e = t.linear->input;
           if (e.dtype != DType::kI8 || e.scale == InputScale::kBlock128) return false;
           const GpuLinear* const on = context_.weights.find(*t.linear);
           if (on == nullptr || !on->plain()) return false;
           if (first == nullptr) first = &on->tiles();
           return cuda::takes_int8(on->tiles()) && cuda::alike(on->tiles(), *first);
         });
}

cuda::HalfInputs GpuGemm::workspace(Inputs& inputs, int64_t m, int64_t k, const InputEncoding& e) {
  const auto stride = static_cast<int64_t>(round_up(static_cast<uint64_t>(k), cuda::kStageColumns));
  context_.grow(inputs.values, static_cast<uint64_t>(m * stride) * sizeof(uint16_t));
  context_.grow(inputs.scales, GpuContext::floats(m));
  const NumberFormat round = !e.rounds()             ? NumberFormat::kF16
                             : e.dtype == DType::kI8 ? NumberFormat::kInt8
                                                     : NumberFormat::kE4M3;
  return {inputs.values.data<uint16_t>(),
          stride,
          inputs.scales.data<float>(),
          m,
          round,
          e.scale == InputScale::kTensor ? e.value : 0};
}

cuda::HalfInputs GpuGemm::to_half(const Linear& linear, MatrixRef<float> x) {
  const float* from = x.data;
  const InputEncoding& e = linear.input;
  if (rounds_in_blocks(e)) {
    context_.grow(rounded_, GpuContext::floats(x.rows * x.columns));
    context_.device.run(&Ops::round_inputs,
                        {x.data, x.rows, x.columns, e.dtype != DType::kI8, rounded_.data<float>()});
    from = rounded_.data<float>();
  }
  const cuda::HalfInputs to =
      workspace(inputs_, x.rows, x.columns, rounds_in_blocks(e) ? InputEncoding{} : e);
  context_.device.run(&Ops::to_half, {from, x.columns, to});
  return to;
}

cuda::Int8Inputs GpuGemm::int8_workspace(const Linear& linear, int64_t m, int64_t k) {
  const cuda::HalfInputs bytes = workspace(inputs_, m, k, linear.input);
  return {reinterpret_cast<int8_t*>(bytes.values), bytes.stride, bytes.scales, m, bytes.fixed};
}

cuda::Int8Inputs GpuGemm::to_int8(const Linear& linear, MatrixRef<float> x) {
  const cuda::Int8Inputs to = int8_workspace(linear, x.rows, x.columns);
  context_.device.run(&Ops::to_int8, {x.data, x.columns, to});
  return to;
}

void GpuGemm::run_int8(Targets to, const cuda::Int8Inputs& x, bool accumulate) {
  const auto target = [&](const GemmTarget& t) {
    return target_of(*context_.weights.find(*t.linear), t.y);
  };
  if (x.m > cuda::kMaxBlockTokens && cuda::has_bytes(target(to.front()).w) &&
      context_.device.ops().has_cublas_gemm_8(false)) {
    for (const GemmTarget& t : to)
      multiply_8bit_by_cublas(target(t), x.values, x.scales, x.m, accumulate);
    return;
  }
  cuda::Int8Gemm gemm{{}, 0, x, accumulate, {}, {}};
  for (const GemmTarget& t : to) gemm.to[gemm.count++] = target(t);
  run_gemm(&Ops::int8_gemm, gemm);
}

template <class Gemm>
void GpuGemm::run_gemm(cuda::Status (*Ops::*op)(const Gemm&, cuda::Stream), Gemm gemm) {
  gemm.plan = cuda::plan_gemm(gemm, context_.chip);
  context_.grow(partial_, cuda::workspace_bytes(gemm, gemm.plan));
  context_.grow(arrived_,
                static_cast<uint64_t>(cuda::blocks_of(gemm, gemm.plan)) * sizeof(int32_t));
  gemm.workspace = {partial_.data(), arrived_.data<int32_t>()};
  context_.device.run(op, gemm);
}

void GpuGemm::run(const Linear& linear, const cuda::HalfInputs& x, MatrixRef<float> y,
                  bool accumulate) {
  context_.weights.use(linear, [&](const GpuLinear& on) {
    const float* bias = on.bias.data<float>();
    for (const auto& t : on.terms) {
      const GpuWeight* w = &t.w;
      cuda::HalfInputs inputs = x;
      if (t.up) {
        const int64_t rank = t.w.tiles().n;
        context_.grow(inner_, GpuContext::floats(x.m * rank));
        multiply({t.w.tiles(), inner_.data<float>(), rank, nullptr}, x, false);
        inputs = workspace(inner_inputs_, x.m, rank);
        context_.device.run(&Ops::to_half, {inner_.data<float>(), rank, inputs});
        w = &*t.up;
      }
      multiply({w->tiles(), y.data, y.columns, bias}, inputs, accumulate);
      bias = nullptr;
      accumulate = true;
    }
  });
}

void GpuGemm::run_all(Targets to, const cuda::HalfInputs& x) {
  cuda::QuantGemm gemm{};
  gemm.x = x;
  bool plain = to.size() <= cuda::kMaxTargets && !for_cublas(x);
  for (size_t i = 0; plain && i < to.size(); ++i) {
    const GpuLinear* const on = context_.weights.find(*to[i].linear);
    plain = on != nullptr && on->plain();
    if (!plain) break;
    gemm.to[gemm.count++] = target_of(*on, to[i].y);
    plain = cuda::alike(gemm.to[i].w, gemm.to[0].w);
  }
  if (plain) return run_gemm(&Ops::quant_gemm, gemm);
  for (const GemmTarget& t : to) run(*t.linear, x, t.y, false);
}

bool GpuGemm::for_cublas(const cuda::HalfInputs& x) const {
  return x.m > cuda::kMaxBlockTokens && !context_.batch_invariant &&
         context_.device.ops().has_cublas();
}

void GpuGemm::multiply(const cuda::TileTarget& to, const cuda::HalfInputs& x, bool accumulate) {
  if (!for_cublas(x))
    return run_gemm(&Ops::quant_gemm, cuda::QuantGemm{{to}, 1, x, accumulate, {}, {}});
  if (x.round == NumberFormat::kE4M3 && to.w.format == NumberFormat::kE4M3 &&
      cuda::has_bytes(to.w) && context_.device.ops().has_cublas_gemm_8(true)) {
    const int64_t n = x.m * x.stride;
    context_.grow(bytes_, static_cast<uint64_t>(n));
    context_.device.run(&Ops::half_to_e4m3, {x.values, n, bytes_.data<uint8_t>()});
    return multiply_8bit_by_cublas(to, bytes_.data(), x.scales, x.m, accumulate);
  }
  multiply_f16_by_cublas(to, x, accumulate);
}

// Calls f(first tile, tiles) for pieces of w so large that the output of m tokens stays in the L2
// cache. The workspace holds a piece as rows of numbers of `bytes`, and its output.
template <class F>
void GpuGemm::by_pieces(const cuda::TileWeight& w, int64_t m, uint64_t bytes, F f) {
  constexpr int64_t kSumsAtOnce = int64_t{1} << 22;  // 16 MiB
  const int64_t rows = std::clamp<int64_t>(kSumsAtOnce / m, 1, w.tiles * cuda::kTileRows);
  const int64_t tiles = ceil_div(rows, cuda::kTileRows);
  const int64_t k = w.stages * cuda::kStageColumns;
  context_.grow(piece_, static_cast<uint64_t>(tiles * cuda::kTileRows * k) * bytes);
  context_.grow(gemm_output_, GpuContext::floats(m * tiles * cuda::kTileRows));
  for (int64_t first = 0; first < w.tiles; first += tiles)
    f(first, std::min(tiles, w.tiles - first));
}

// The weight is dequantized to f16, piece by piece.
void GpuGemm::multiply_f16_by_cublas(const cuda::TileTarget& to, const cuda::HalfInputs& x,
                                     bool accumulate) {
  GpuDevice& device = context_.device;
  const cuda::TileWeight& w = to.w;
  by_pieces(w, x.m, sizeof(uint16_t), [&](int64_t first, int64_t count) {
    const int64_t row = first * cuda::kTileRows, n = count * cuda::kTileRows;
    device.run(&Ops::dequantize, {w, first, count, piece_.data<uint16_t>()});
    device.run(&Ops::cublas_gemm_f16, {piece_.data<uint16_t>(), n, x, gemm_output_.data<float>()});
    device.run(&Ops::gemm_epilogue,
               {gemm_output_.data<float>(), n, std::min(n, w.n - row), x.scales, x.m, to.y + row,
                to.ldy, to.bias ? to.bias + row : nullptr, accumulate});
  });
}

// The same of codes of 8 bits: x [m, columns of stages].
void GpuGemm::multiply_8bit_by_cublas(const cuda::TileTarget& to, const void* x,
                                      const float* scales, int64_t m, bool accumulate) {
  GpuDevice& device = context_.device;
  const cuda::TileWeight& w = to.w;
  const bool floats = w.format == NumberFormat::kE4M3;
  by_pieces(w, m, 1, [&](int64_t first, int64_t count) {
    const int64_t row = first * cuda::kTileRows, n = count * cuda::kTileRows;
    device.run(&Ops::unpack_bytes, {w, first, count, piece_.data()});
    device.run(&Ops::cublas_gemm_8, {piece_.data(), x, m, n, w.stages * cuda::kStageColumns, floats,
                                     gemm_output_.data()});
    device.run(&Ops::gemm_8_epilogue,
               {gemm_output_.data(), floats, n, std::min(n, w.n - row), m, w, row, scales,
                to.y + row, to.ldy, to.bias ? to.bias + row : nullptr, accumulate});
  });
}

}  // namespace pith
