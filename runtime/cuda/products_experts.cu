// Products of the experts that tokens chose.
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/tile_product.h"

namespace pith::cuda {
namespace {

// y[i, r] = row r of weight expert[i] times x[i / sharing]
//
// w, x    as in tile_product.h, all w of one shape
// needs   expert[i] one of the table                                  (as route() writes them)
// sums    those of tile_product.h for one token
// grid    x: tiles of all weights of an expert, y: pairs of a token and an expert; 8 warps
// bound   memory: bytes of the chosen; experts that several tokens chose come from the L2 cache
template <class Math>
PITH_KERNEL expert_product_kernel(ExpertProduct a) {
  wait_for_previous();  // which experts is known only then
  const int64_t pair = block_y();
  const bool second = block_x() >= a.tiles;
  const TileWeight& w = a.weights[second ? 1 : 0][a.expert[pair]];
  const int64_t row = pair / a.sharing;
  HalfInputs x = a.x;
  x.values += row * x.stride;
  x.scales += row;
  x.m = 1;
  multiply_tile<Math>(w, nullptr, block_x() - (second ? a.tiles : 0), x, false,
                      a.y[second ? 1 : 0] + pair * a.n, a.n);
}

template <Codes codes>
Status run(const ExpertProduct& a, Stream stream) {
  return launch(expert_product_kernel<Halves<codes>>,
                {a.tiles * a.count, a.pairs, 1, 32 * kParts, kParts * 4 * 32 * 4, true}, stream, a);
}

}  // namespace

Status expert_product(const ExpertProduct& a, Stream stream) {
  if (a.count < 1 || a.count > 2 || a.sharing < 1 || a.pairs > 65535)
    return "experts: a number that it does not take";
  if (a.x.stride < a.stages * kStageColumns) return "experts: inputs shorter than rows";
  if (a.x.m * a.sharing < a.pairs) return "experts: fewer inputs than pairs";
  switch (a.codes) {
    case Codes::kInt2:
      return run<Codes::kInt2>(a, stream);
    case Codes::kInt3:
      return run<Codes::kInt3>(a, stream);
    case Codes::kInt4:
      return run<Codes::kInt4>(a, stream);
    case Codes::kInt5:
      return run<Codes::kInt5>(a, stream);
    case Codes::kInt6:
      return run<Codes::kInt6>(a, stream);
    case Codes::kInt8:
      return run<Codes::kInt8>(a, stream);
    case Codes::kNf4:
      return run<Codes::kNf4>(a, stream);
    case Codes::kE4M3:
      return run<Codes::kE4M3>(a, stream);
    case Codes::kE5M2:
      return run<Codes::kE5M2>(a, stream);
    case Codes::kF16:
      return run<Codes::kF16>(a, stream);
    default:
      return run<Codes::kBF16>(a, stream);
  }
}

}  // namespace pith::cuda
