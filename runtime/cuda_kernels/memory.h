// What libraries do, as cuda_ops.h describes it: memory and streams of cudart, or their emulation;
// and whether cuBLAS is there, whose GEMMs are among the launchers.
#pragma once

#include "runtime/cuda_kernels/launchers.h"

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
bool has_cublas_gemm_8(bool floats);

}  // namespace pith::cuda
