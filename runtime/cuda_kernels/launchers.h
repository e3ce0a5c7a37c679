// The launchers of the kernels, one family a folder: each checks what its kernel needs.
#pragma once

#include "runtime/cuda_kernels/cuda_ops.h"

namespace pith::cuda {

#define PITH_OP_LAUNCHER(name, Arguments) Status name(const Arguments& a, Stream stream);
PITH_CUDA_OPS(PITH_OP_LAUNCHER)
#undef PITH_OP_LAUNCHER

// Parts of quant_gemm and int8_gemm, one file of instances for each family of formats.
Status gemm_w2_w4(const QuantGemm& a, Stream stream);  // 2 to 4 bits, nf4, e2m1
Status gemm_w5_w8(const QuantGemm& a, Stream stream);  // 5 to 8 bits
Status gemm_tcq(const QuantGemm& a, Stream stream);
Status gemm_float(const QuantGemm& a, Stream stream);  // floats of 8 and 16 bits
Status gemm_int8(const Int8Gemm& a, Stream stream);
// Parts of decode_attention: MLA; tensor cores.
Status decode_attention_mla(const DecodeAttention& a, Stream stream);
Status decode_attention_mma(const DecodeAttention& a, Stream stream);

}  // namespace pith::cuda
