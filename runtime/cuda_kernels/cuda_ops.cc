#include "runtime/cuda_kernels/cuda_ops.h"

#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/memory.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/cuda_kernels/refuse.h"

namespace pith::cuda {

namespace {

constexpr bool one_of(int32_t v, int32_t most) { return v > 0 && v <= most && (v & (v - 1)) == 0; }

// Null where a product can be: up to three weights of the same codes whose rows are not longer than
// the inputs, and a plan for so many tokens.
template <class Product>
Status check_gemm(const Product& a) {
  if (a.count < 1 || a.count > kMaxTargets)
    return refuse("gemm: %ld weights, it takes %ld", a.count, kMaxTargets);
  const TileWeight& first = a.to[0].w;
  for (int i = 0; i < a.count; ++i) {
    const TileWeight& w = a.to[i].w;
    if (a.x.stride < w.stages * kStageColumns)
      return refuse("gemm: activations of stride %ld for rows of %ld", a.x.stride,
                    w.stages * kStageColumns);
    if (!alike(w, first))
      return refuse("gemm: weights of formats %ld and %ld, or other groups or rows", w.format,
                    first.format);
  }
  const GemmPlan& p = a.plan;
  if (!one_of(p.tokens, 64) || p.tokens < 8 || (p.tokens == 8 && a.x.m > 8) ||
      !one_of(p.warps, 8) || p.stages < 2 || p.stages > 4 || !one_of(p.splits, 8) ||
      (p.tokens > 8 && p.splits > 1 &&
       (a.workspace.sums == nullptr || a.workspace.arrived == nullptr)))
    return refuse("gemm: no plan: %ld tokens, %ld warps, %ld stages, %ld splits", p.tokens, p.warps,
                  p.stages, p.splits);
  return nullptr;
}

}  // namespace

Status quant_gemm(const QuantGemm& a, Stream stream) {
  if (const Status bad = check_gemm(a)) return bad;
  switch (a.to[0].w.format) {
    case NumberFormat::kInt2:
    case NumberFormat::kInt3:
    case NumberFormat::kInt4:
    case NumberFormat::kNf4:
    case NumberFormat::kE2M1:
      return gemm_w2_w4(a, stream);
    case NumberFormat::kInt5:
    case NumberFormat::kInt6:
    case NumberFormat::kInt8:
      return gemm_w5_w8(a, stream);
    case NumberFormat::kTcq2:
    case NumberFormat::kTcq3:
    case NumberFormat::kTcq4:
      return gemm_tcq(a, stream);
    default:
      return gemm_float(a, stream);
  }
}
Status int8_gemm(const Int8Gemm& a, Stream stream) {
  if (const Status bad = check_gemm(a)) return bad;
  return gemm_int8(a, stream);
}

const Ops& ops_table() {
#define PITH_OP_ENTRY(name, Arguments) .name = name,
  static const Ops table = {.version = kOpsVersion,
                            .bytes = sizeof(Ops),
                            .allocate = allocate,
                            .release = release,
                            .memory = memory,
                            .chip = chip,
                            .make_stream = make_stream,
                            .end_stream = end_stream,
                            .upload = upload,
                            .download = download,
                            .copy = copy,
                            .wait = wait,
                            .begin_graph = begin_graph,
                            .end_graph = end_graph,
                            .launch_graph = launch_graph,
                            .release_graph = release_graph,
                            .has_cublas = has_cublas,
                            .has_cublas_gemm_8 = has_cublas_gemm_8,
                            PITH_CUDA_OPS(PITH_OP_ENTRY)};
#undef PITH_OP_ENTRY
  return table;
}

}  // namespace pith::cuda
