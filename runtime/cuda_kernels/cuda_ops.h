// What the CUDA backend can do, as plain functions over device memory: the seam between the
// executor, which is part of the program, and the shared object with the kernels. The same table is
// filled by the emulation of the kernels (device/emulated.h), so that the executor is tested
// without a GPU.
//
// Pointers in arguments are to device memory. Every function returns null, or what went wrong. Work
// is done in order on the stream that it is given.
#pragma once

#include <stdint.h>

#include "runtime/cuda_kernels/attention/attention.h"
#include "runtime/cuda_kernels/compress/dense_algebra.h"
#include "runtime/cuda_kernels/compress/gptq.h"
#include "runtime/cuda_kernels/elementwise/elementwise.h"
#include "runtime/cuda_kernels/gemm/quant_gemm.h"
#include "runtime/cuda_kernels/gemm/repack.h"
#include "runtime/cuda_kernels/logits/logits.h"
#include "runtime/cuda_kernels/moe/moe.h"
#include "runtime/cuda_kernels/status.h"

namespace pith::cuda {

// All operations that work on a stream: X(name, its arguments). This list makes the table, the
// declarations of the launchers (launchers.h) and the table that counts memory
// (runtime/cuda/memory_plan.cc); a new operation is a struct in the header of its family, a line
// here, and a .cu with `Status name(const Arguments&, Stream)`. gemm_tf32 is a Gemm whose factors
// may be rounded to 11 bits; it and cublas_gemm_* are by cuBLAS, where that is there. The last are
// for compression: dense_algebra.h, gptq.h.
#define PITH_CUDA_OPS(X)                 \
  X(repack_codes, RepackCodes)           \
  X(repack_tcq, RepackTcq)               \
  X(repack_pairs, RepackPairs)           \
  X(repack_zeros, RepackZeros)           \
  X(quant_gemm, QuantGemm)               \
  X(dequantize, Dequantize)              \
  X(cublas_gemm_f16, CublasGemmF16)      \
  X(gemm_tf32, Gemm<float>)              \
  X(cublas_gemm_8, CublasGemm8)          \
  X(unpack_bytes, UnpackBytes)           \
  X(half_to_e4m3, HalfToE4M3)            \
  X(gemm_8_epilogue, Gemm8Epilogue)      \
  X(gemm_epilogue, GemmEpilogue)         \
  X(to_half, ToHalf)                     \
  X(round_inputs, RoundInputs)           \
  X(norm_to_half, NormToHalf)            \
  X(activate_to_half, ActivateToHalf)    \
  X(int8_gemm, Int8Gemm)                 \
  X(to_int8, ToInt8)                     \
  X(norm_to_int8, NormToInt8)            \
  X(activate_to_int8, ActivateToInt8)    \
  X(norm, Norm)                          \
  X(cap, Cap)                            \
  X(embed, Embed)                        \
  X(gather, Gather)                      \
  X(add_rows, AddRows)                   \
  X(add_gated, AddGated)                 \
  X(copy_columns, CopyColumns)           \
  X(route, Route)                        \
  X(moe_gemv, MoeGemv)                   \
  X(sort_pairs, SortPairs)               \
  X(moe_gemm, MoeGemm)                   \
  X(combine_experts, CombineExperts)     \
  X(write_kv, WriteKv)                   \
  X(write_latent_kv, WriteLatentKv)      \
  X(decode_attention, DecodeAttention)   \
  X(prefill_attention, PrefillAttention) \
  X(top, Top)                            \
  X(mass_behind, MassBehind)             \
  X(score, Score)                        \
  X(gemm_f32, Gemm<float>)               \
  X(gemm_f64, Gemm<double>)              \
  X(cholesky_tile, CholeskyTile)         \
  X(triangular_solve, TriangularSolve)   \
  X(reorder, Reorder)                    \
  X(unit_upper, UnitUpper)               \
  X(f32_to_f64, F32ToF64)                \
  X(add_scaled, AddScaled)               \
  X(f64_to_f32, F64ToF32)                \
  X(channel_sums, ChannelSums)           \
  X(column_sums, ColumnSums)             \
  X(load_rows, LoadRows)                 \
  X(sweep, Sweep)                        \
  X(descend, Descend)                    \
  X(from_codes, FromCodes)               \
  X(refit, Refit)

struct Ops {
  int32_t version;
  int32_t bytes;  // of this table

  Status (*allocate)(uint64_t bytes, void** to);  // zeroed
  void (*release)(void* p);
  Status (*memory)(uint64_t* free, uint64_t* total);
  Status (*chip)(Chip* to);
  Status (*make_stream)(Stream* to);
  void (*end_stream)(Stream stream);
  // From memory of the system, which is read before it returns.
  Status (*upload)(void* to, const void* from, uint64_t bytes, Stream stream);
  Status (*download)(void* to, const void* from, uint64_t bytes, Stream stream);
  Status (*copy)(void* to, const void* from, uint64_t bytes, Stream stream);  // on the device
  Status (*wait)(Stream stream);

  // What is asked for between the two is not done but kept, to be done by launch_graph as often as
  // it is called. No memory is asked for or copied in between.
  Status (*begin_graph)(Stream stream);
  Status (*end_graph)(Stream stream, Graph* to);
  Status (*launch_graph)(Graph graph, Stream stream);
  void (*release_graph)(Graph graph);

  bool (*has_cublas)();
  bool (*has_cublas_gemm_8)(bool floats);  // 8-bit floats need a device that has them

#define PITH_OP_POINTER(name, Arguments) Status (*name)(const Arguments& a, Stream stream);
  PITH_CUDA_OPS(PITH_OP_POINTER)
#undef PITH_OP_POINTER
};
inline constexpr int32_t kOpsVersion = 8;

}  // namespace pith::cuda
