// The launchers of the kernels, one family a file: each checks what its kernel needs.
#pragma once

#include "runtime/cuda/ops.h"

namespace pith::cuda {

Status repack_codes(const RepackCodes& a, Stream stream);
Status repack_pairs(const RepackPairs& a, Stream stream);
Status repack_zeros(const RepackZeros& a, Stream stream);
// By codes: one file of instances each.
Status products_small(const TileProduct& a, Stream stream);   // 2 to 4 bits, nf4
Status products_middle(const TileProduct& a, Stream stream);  // 5 to 8 bits
Status products_floats(const TileProduct& a, Stream stream);  // floats of 8 and 16 bits
Status products_ints(const Int8Product& a, Stream stream);
Status dequantize(const Dequantize& a, Stream stream);
Status finish(const Finish& a, Stream stream);
Status to_half(const ToHalf& a, Stream stream);
Status round_inputs(const RoundInputs& a, Stream stream);
Status norm_to_half(const NormToHalf& a, Stream stream);
Status activate_to_half(const ActivateToHalf& a, Stream stream);
Status to_int8(const ToInt8& a, Stream stream);
Status norm_to_int8(const NormToInt8& a, Stream stream);
Status activate_to_int8(const ActivateToInt8& a, Stream stream);
Status norm(const Norm& a, Stream stream);
Status embed(const Embed& a, Stream stream);
Status gather(const Gather& a, Stream stream);
Status append(const Append& a, Stream stream);
Status attend(const Attend& a, Stream stream);
Status attend_tiles(const AttendTiles& a, Stream stream);
Status top(const Top& a, Stream stream);

}  // namespace pith::cuda
