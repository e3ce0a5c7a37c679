#include "runtime/cuda_kernels/ops.h"

#include "runtime/cuda_kernels/launchers.h"
#include "runtime/cuda_kernels/memory.h"
#include "runtime/cuda_kernels/ops_table.h"

namespace pith::cuda {

namespace {

constexpr bool one_of(int32_t v, int32_t most) { return v > 0 && v <= most && (v & (v - 1)) == 0; }

// Null where a product can be: up to three weights of the same codes whose rows are not longer than
// the inputs, and a plan for so many tokens.
template <class Product>
Status check_gemm(const Product& a) {
  if (a.count < 1 || a.count > kMostTargets)
    return "product: a number of weights that it does not take";
  const TileWeight& first = a.to[0].w;
  for (int i = 0; i < a.count; ++i) {
    const TileWeight& w = a.to[i].w;
    if (a.x.stride < w.stages * kStageColumns) return "product: inputs shorter than rows";
    if (!alike(w, first)) return "product: weights of different codes, groups or rows";
  }
  const GemmPlan& p = a.plan;
  if (!one_of(p.tokens, 64) || p.tokens < 8 || (p.tokens == 8 && a.x.m > 8) ||
      !one_of(p.warps, 8) || p.stages < 2 || p.stages > 4 || !one_of(p.splits, 8) ||
      (p.tokens > 8 && p.splits > 1 &&
       (a.workspace.sums == nullptr || a.workspace.arrived == nullptr)))
    return "product: a plan that is none";
  return nullptr;
}

}  // namespace

Status quant_gemm(const QuantGemm& a, Stream stream) {
  if (const Status bad = check_gemm(a)) return bad;
  const Codes c = a.to[0].w.codes;
  if (c <= Codes::kInt4 || c == Codes::kNf4 || c == Codes::kE2M1) return gemm_w2_w4(a, stream);
  if (c <= Codes::kInt8) return gemm_w5_w8(a, stream);
  return gemm_float(a, stream);
}
Status int8_gemm(const Int8Gemm& a, Stream stream) {
  if (const Status bad = check_gemm(a)) return bad;
  return gemm_int8(a, stream);
}

const Ops& ops_table() {
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
                            .repack_codes = repack_codes,
                            .repack_pairs = repack_pairs,
                            .repack_zeros = repack_zeros,
                            .quant_gemm = quant_gemm,
                            .dequantize = dequantize,
                            .has_cublas = has_cublas,
                            .cublas_gemm_f16 = cublas_gemm_f16,
                            .gemm_tf32 = gemm_tf32,
                            .has_cublas_gemm_8 = has_cublas_gemm_8,
                            .cublas_gemm_8 = cublas_gemm_8,
                            .unpack_bytes = unpack_bytes,
                            .half_to_e4m3 = half_to_e4m3,
                            .int8_epilogue = int8_epilogue,
                            .gemm_epilogue = gemm_epilogue,
                            .to_half = to_half,
                            .round_inputs = round_inputs,
                            .norm_to_half = norm_to_half,
                            .activate_to_half = activate_to_half,
                            .int8_gemm = int8_gemm,
                            .to_int8 = to_int8,
                            .norm_to_int8 = norm_to_int8,
                            .activate_to_int8 = activate_to_int8,
                            .norm = norm,
                            .cap = cap,
                            .embed = embed,
                            .gather = gather,
                            .add_rows = add_rows,
                            .add_gated = add_gated,
                            .copy_columns = copy_columns,
                            .route = route,
                            .moe_gemv = moe_gemv,
                            .sort_pairs = sort_pairs,
                            .moe_gemm = moe_gemm,
                            .combine_experts = combine_experts,
                            .write_kv = write_kv,
                            .write_latent_kv = write_latent_kv,
                            .attend = attend,
                            .attend_tiles = attend_tiles,
                            .top = top,
                            .mass_behind = mass_behind,
                            .score = score,
                            .gemm_f32 = gemm_f32,
                            .gemm_f64 = gemm_f64,
                            .factor_tile = factor_tile,
                            .solve_tile = solve_tile,
                            .reorder = reorder,
                            .unit_upper = unit_upper,
                            .f32_to_f64 = f32_to_f64,
                            .add_scaled = add_scaled,
                            .f64_to_f32 = f64_to_f32,
                            .channel_sums = channel_sums,
                            .column_sums = column_sums,
                            .load_rows = load_rows,
                            .sweep = sweep,
                            .descend = descend,
                            .from_codes = from_codes,
                            .refit = refit};
  return table;
}

}  // namespace pith::cuda
