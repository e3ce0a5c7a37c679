// What libraries do, as ops.h describes it: memory and streams of cudart and products of cuBLAS, or
// their emulation.
#pragma once

#include "runtime/cuda_kernels/ops.h"

namespace pith::cuda {

Status allocate(uint64_t bytes, void** to);
void release(void* p);
Status memory(uint64_t* free, uint64_t* total);
Status chip(Chip* to);
Status make_stream(Stream* to);
void end_stream(Stream stream);
Status upload(void* to, const void* from, uint64_t bytes, Stream stream);
Status download(void* to, const void* from, uint64_t bytes, Stream stream);
Status copy(void* to, const void* from, uint64_t bytes, Stream stream);
Status wait(Stream stream);
Status begin_graph(Stream stream);
Status end_graph(Stream stream, Graph* to);
Status launch_graph(Graph graph, Stream stream);
void release_graph(Graph graph);

bool has_cublas();
Status cublas_gemm_f16(const CublasGemmF16& a, Stream stream);
Status gemm_tf32(const Gemm<float>& a, Stream stream);
bool has_cublas_gemm_8(bool floats);
Status cublas_gemm_8(const CublasGemm8& a, Stream stream);

}  // namespace pith::cuda
