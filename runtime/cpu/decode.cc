#include "runtime/cpu/decode.h"

#include "core/buffer.h"

namespace pith {

void decode_rows(const Weight& w, int64_t row, int64_t rows, float* out) {
  decode_rows(cpu_kernels(), w, row, rows, out);
}

void decode_rows(const Linear& linear, int64_t row, int64_t rows, float* out) {
  const CpuKernels& kernels = cpu_kernels();
  const int64_t k = linear.k;
  thread_local Buffer<float> down, up;
  bool add = false;
  for (const auto& t : linear.terms) {
    if (t.up) {
      const int64_t rank = t.w.n;
      down.require(rank * k);
      up.require(rows * rank);
      decode_rows(kernels, t.w, 0, rank, down.data());
      decode_rows(kernels, *t.up, row, rows, up.data());
      kernels.gemm(rows, k, rank, up.data(), rank, down.data(), k, out, k, add);
    } else if (!add) {
      decode_rows(kernels, t.w, row, rows, out);
    } else {
      down.require(rows * k);
      decode_rows(kernels, t.w, row, rows, down.data());
      for (int64_t i = 0; i < rows * k; ++i) out[i] += down[i];
    }
    add = true;
  }
}

}  // namespace pith
