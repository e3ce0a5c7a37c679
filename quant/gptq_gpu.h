// GPTQ on a GPU: the steps of gptq.h and of gptq_stage.cc over many rows at a time, on
// runtime/cuda_kernels/compress/gptq.h. The same loss up to rounding; not the same bits, for sums have
// another order, and which of two scales that are as good is chosen can depend on a last bit.
#pragma once

#include "quant/gptq.h"
#include "runtime/compress/calibration.h"
#include "runtime/cuda/gpu_algebra.h"

namespace pith {

// What lies there of a factor: H and U by place, and tables.
struct GptqOnGpu {
  GpuDevice& device;
  GpuMatrix<float> gram, unit;     // H damped; U, unit upper triangular
  GpuBuffer variance;              // [k]
  GpuBuffer order, group, starts;  // [k], [k], [groups + 1]
};

// Of f's order, groups and blocks; `diagonal` is that of the Gram matrix times `unit`. Sets
// f->variance. Null where the matrix is not positive definite.
std::shared_ptr<GptqOnGpu> factor_on_gpu(GpuDevice& device, GptqFactor* f, const float* gram,
                                         const std::vector<float>& diagonal, double unit,
                                         double damping);

// As encode_gptq; `w` is job.w on the device.
GptqLoss encode_gptq_on_gpu(const GptqFactor& f, const GptqOptions& options, const RowJob& job,
                            const float* w);

// Rows that are worked on together: as many as a fixed room takes, so that results do not depend on
// the device.
int64_t gptq_gpu_rows(int64_t k, int64_t group);
// What a stage takes of a device at most, with input correction.
uint64_t gptq_gpu_bytes(int64_t n, int64_t k, int64_t group);

// Input correction (gptq_stage.h).
class GpuCorrection {
 public:
  // None where the equations cannot be solved.
  static std::unique_ptr<GpuCorrection> make(GpuDevice& device, const InputStatistics& fitted,
                                             const InputStatistics& held, int64_t k,
                                             double damping);

  // Of rows [first, first + rows) of a weight, w [rows, k] on the device: how they would move.
  GpuMatrix<float> move(const float* w, int64_t first, int64_t rows);
  // What the error on the held-out text would gain, to the first order, and cost, to the second.
  void judge(const float* w, const GpuMatrix<float>& move, int64_t first, double* gain,
             double* cost);
  // w += share move
  void apply(const GpuMatrix<float>& move, float share, float* w);

 private:
  explicit GpuCorrection(GpuDevice& device) : device_(device) {}

  GpuDevice& device_;
  GpuMatrix<float> inputs_, outputs_, held_change_, held_residual_, held_gram_;
};

}  // namespace pith
