// The launchers of the kernels, one family a file: each checks what its kernel needs.
#pragma once

#include "runtime/cuda_kernels/ops.h"

namespace pith::cuda {

Status repack_codes(const RepackCodes& a, Stream stream);
Status repack_pairs(const RepackPairs& a, Stream stream);
Status repack_zeros(const RepackZeros& a, Stream stream);
// Quantized GEMV and GEMM, one file of instances for each family of codes.
Status gemm_w2_w4(const QuantGemm& a, Stream stream);  // 2 to 4 bits, nf4, e2m1
Status gemm_w5_w8(const QuantGemm& a, Stream stream);  // 5 to 8 bits
Status gemm_float(const QuantGemm& a, Stream stream);  // floats of 8 and 16 bits
Status gemm_int8(const Int8Gemm& a, Stream stream);
Status dequantize(const Dequantize& a, Stream stream);
Status unpack_bytes(const UnpackBytes& a, Stream stream);
Status half_to_e4m3(const HalfToE4M3& a, Stream stream);
Status int8_epilogue(const Int8Epilogue& a, Stream stream);
Status gemm_epilogue(const GemmEpilogue& a, Stream stream);
Status to_half(const ToHalf& a, Stream stream);
Status round_inputs(const RoundInputs& a, Stream stream);
Status norm_to_half(const NormToHalf& a, Stream stream);
Status activate_to_half(const ActivateToHalf& a, Stream stream);
Status to_int8(const ToInt8& a, Stream stream);
Status norm_to_int8(const NormToInt8& a, Stream stream);
Status activate_to_int8(const ActivateToInt8& a, Stream stream);
Status norm(const Norm& a, Stream stream);
Status cap(const Cap& a, Stream stream);
Status embed(const Embed& a, Stream stream);
Status gather(const Gather& a, Stream stream);
Status add_rows(const AddRows& a, Stream stream);
Status add_gated(const AddGated& a, Stream stream);
Status copy_columns(const CopyColumns& a, Stream stream);
Status route(const Route& a, Stream stream);
Status moe_gemv(const MoeGemv& a, Stream stream);
Status sort_pairs(const SortPairs& a, Stream stream);
Status moe_gemm(const MoeGemm& a, Stream stream);
Status combine_experts(const CombineExperts& a, Stream stream);
Status write_kv(const WriteKv& a, Stream stream);
Status write_latent_kv(const WriteLatentKv& a, Stream stream);
Status attend(const Attend& a, Stream stream);
Status attend_latent(const Attend& a, Stream stream);
Status attend_pages(const Attend& a, Stream stream);
Status attend_tiles(const AttendTiles& a, Stream stream);
Status top(const Top& a, Stream stream);
Status mass_behind(const MassBehind& a, Stream stream);
Status score(const Score& a, Stream stream);
Status gemm_f32(const Gemm<float>& a, Stream stream);
Status gemm_f64(const Gemm<double>& a, Stream stream);
Status factor_tile(const FactorTile& a, Stream stream);
Status solve_tile(const SolveTile& a, Stream stream);
Status reorder(const Reorder& a, Stream stream);
Status unit_upper(const UnitUpper& a, Stream stream);
Status f32_to_f64(const F32ToF64& a, Stream stream);
Status add_scaled(const AddScaled& a, Stream stream);
Status f64_to_f32(const F64ToF32& a, Stream stream);
Status channel_sums(const ChannelSums& a, Stream stream);
Status column_sums(const ColumnSums& a, Stream stream);
Status load_rows(const LoadRows& a, Stream stream);
Status sweep(const Sweep& a, Stream stream);
Status descend(const Descend& a, Stream stream);
Status from_codes(const FromCodes& a, Stream stream);
Status refit(const Refit& a, Stream stream);

}  // namespace pith::cuda
