#include "runtime/cuda/ops.h"

#include "runtime/cuda/kernels.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/table.h"

namespace pith::cuda {

Status tile_product_small(const TileProduct& a, Stream stream);
Status tile_product_middle(const TileProduct& a, Stream stream);
Status tile_product_floats(const TileProduct& a, Stream stream);

Status tile_product(const TileProduct& a, Stream stream) {
  if (const Status bad = check_product(a)) return bad;
  const Codes c = a.to[0].w.codes;
  for (int i = 0; i < a.count; ++i) {
    if (a.to[i].w.codes != c) return "product: weights of different codes";
  }
  if (c <= Codes::kInt4 || c == Codes::kNf4) return tile_product_small(a, stream);
  if (c <= Codes::kInt8) return tile_product_middle(a, stream);
  return tile_product_floats(a, stream);
}

const Ops& ops_table() {
  static const Ops table = {.version = kOpsVersion,
                            .bytes = sizeof(Ops),
                            .allocate = allocate,
                            .release = release,
                            .memory = memory,
                            .make_stream = make_stream,
                            .end_stream = end_stream,
                            .upload = upload,
                            .download = download,
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
                            .has_half_product = has_half_product,
                            .half_product = half_product,
                            .finish = finish,
                            .to_half = to_half,
                            .round_inputs = round_inputs,
                            .rotate = rotate,
                            .norm_to_half = norm_to_half,
                            .activate_to_half = activate_to_half,
                            .int8_product = int8_product,
                            .to_int8 = to_int8,
                            .norm_to_int8 = norm_to_int8,
                            .activate_to_int8 = activate_to_int8,
                            .norm = norm,
                            .embed = embed,
                            .gather = gather,
                            .rope = rope,
                            .append = append,
                            .attend = attend,
                            .attend_tiles = attend_tiles};
  return table;
}

}  // namespace pith::cuda
