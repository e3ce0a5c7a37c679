#include "runtime/cuda/ops.h"

#include "runtime/cuda/kernels.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/table.h"

namespace pith::cuda {

namespace {

constexpr bool one_of(int32_t v, int32_t most) { return v > 0 && v <= most && (v & (v - 1)) == 0; }

// Null where a product can be: up to three weights of the same codes whose rows are not longer than
// the inputs, and a plan for so many tokens.
template <class Product>
Status check_product(const Product& a) {
  if (a.count < 1 || a.count > kMostTargets)
    return "product: a number of weights that it does not take";
  const TileWeight& first = a.to[0].w;
  for (int i = 0; i < a.count; ++i) {
    const TileWeight& w = a.to[i].w;
    if (a.x.stride < w.stages * kStageColumns) return "product: inputs shorter than rows";
    if (!alike(w, first)) return "product: weights of different codes, groups or rows";
  }
  const ProductPlan& p = a.plan;
  if (!one_of(p.tokens, 64) || p.tokens < 8 || (p.tokens == 8 && a.x.m > 8) ||
      !one_of(p.warps, 8) || p.stages < 2 || p.stages > 4 || !one_of(p.splits, 8) ||
      (p.tokens > 8 && p.splits > 1 && (a.room.sums == nullptr || a.room.arrived == nullptr)))
    return "product: a plan that is none";
  return nullptr;
}

}  // namespace

Status tile_product(const TileProduct& a, Stream stream) {
  if (const Status bad = check_product(a)) return bad;
  const Codes c = a.to[0].w.codes;
  if (c <= Codes::kInt4 || c == Codes::kNf4 || c == Codes::kE2M1) return products_small(a, stream);
  if (c <= Codes::kInt8) return products_middle(a, stream);
  return products_floats(a, stream);
}
Status int8_product(const Int8Product& a, Stream stream) {
  if (const Status bad = check_product(a)) return bad;
  return products_ints(a, stream);
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
                            .tile_product = tile_product,
                            .dequantize = dequantize,
                            .has_cublas = has_cublas,
                            .half_product = half_product,
                            .gemm_tf32 = gemm_tf32,
                            .has_byte_product = has_byte_product,
                            .byte_product = byte_product,
                            .unpack_bytes = unpack_bytes,
                            .half_to_e4m3 = half_to_e4m3,
                            .finish_bytes = finish_bytes,
                            .finish = finish,
                            .to_half = to_half,
                            .round_inputs = round_inputs,
                            .norm_to_half = norm_to_half,
                            .activate_to_half = activate_to_half,
                            .int8_product = int8_product,
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
                            .expert_product = expert_product,
                            .sort_pairs = sort_pairs,
                            .sorted_expert_product = sorted_expert_product,
                            .join_experts = join_experts,
                            .append = append,
                            .append_latent = append_latent,
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
                            .widen = widen,
                            .add_scaled = add_scaled,
                            .narrow = narrow,
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
