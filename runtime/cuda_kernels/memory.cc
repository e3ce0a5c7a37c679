#include "runtime/cuda_kernels/memory.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/cuda_kernels/status.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

namespace pith::cuda {
namespace {

Status said(cudaError_t status) {
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}
cudaStream_t of(Stream stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

void set_emulation_seed(uint64_t) {}

bool launches_overlap() {
  static const bool overlap = [] {
    const char* const wanted = std::getenv("PITH_CUDA_OVERLAP");
    int major = 0;
    return wanted != nullptr && std::strcmp(wanted, "1") == 0 &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess &&
           major >= 9;
  }();
  return overlap;
}

Status allocate(uint64_t bytes, void** to) {
  *to = nullptr;
  const cudaError_t status = cudaMalloc(to, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // which would be found again after the next launch
    return kOutOfMemory;
  }
  if (status != cudaSuccess) return said(status);
  // On the default stream, of which ours are independent.
  if (const Status bad = said(cudaMemset(*to, 0, bytes))) return bad;
  return said(cudaStreamSynchronize(cudaStreamLegacy));
}
void release(void* p) { cudaFree(p); }
Status memory(uint64_t* free, uint64_t* total) {
  size_t now = 0, all = 0;
  const Status bad = said(cudaMemGetInfo(&now, &all));
  *free = now;
  *total = all;
  return bad;
}
Status chip(Chip* to) {
  int processors = 0, bytes = 0;
  if (const Status bad =
          said(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0)))
    return bad;
  if (const Status bad =
          said(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0)))
    return bad;
  *to = {processors, bytes};
  return nullptr;
}
Status make_stream(Stream* to) {
  cudaStream_t stream = nullptr;
  const Status bad = said(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  *to = stream;
  return bad;
}
void end_stream(Stream stream) { cudaStreamDestroy(of(stream)); }
Status upload(void* to, const void* from, uint64_t bytes, Stream stream) {
  return said(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, of(stream)));
}
Status download(void* to, const void* from, uint64_t bytes, Stream stream) {
  return said(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, of(stream)));
}
Status copy(void* to, const void* from, uint64_t bytes, Stream stream) {
  return said(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, of(stream)));
}
Status begin_graph(Stream stream) {
  return said(cudaStreamBeginCapture(of(stream), cudaStreamCaptureModeThreadLocal));
}
Status end_graph(Stream stream, Graph* to) {
  *to = nullptr;
  cudaGraph_t recorded = nullptr;
  if (const Status bad = said(cudaStreamEndCapture(of(stream), &recorded))) return bad;
  cudaGraphExec_t ready = nullptr;
  const Status bad = said(cudaGraphInstantiate(&ready, recorded, 0));
  cudaGraphDestroy(recorded);
  *to = ready;
  return bad;
}
Status launch_graph(Graph graph, Stream stream) {
  return said(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), of(stream)));
}
void release_graph(Graph graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }
Status wait(Stream stream) { return said(cudaStreamSynchronize(of(stream))); }

}  // namespace pith::cuda
