// Linear algebra on a device (runtime/cuda_kernels/compress/dense_algebra.h), for what is worked
// out while a model is compressed. Matrices lie row by row; results do not depend on the chip.
#pragma once

#include "core/buffer.h"
#include "runtime/cuda/device_memory.h"

namespace pith {

// A matrix [rows, columns] of f32 or f64.
template <class T>
struct GpuMatrix {
  GpuBuffer buffer;
  int64_t rows = 0, columns = 0;

  GpuMatrix() = default;
  GpuMatrix(GpuDevice& device, int64_t m, int64_t n)
      : buffer(device, static_cast<uint64_t>(m * n) * sizeof(T)), rows(m), columns(n) {}
  GpuMatrix(GpuDevice& device, int64_t m, int64_t n, const T* from) : GpuMatrix(device, m, n) {
    device.upload(data(), from, buffer.bytes());
  }
  bool empty() const { return rows == 0; }
  T* data() const { return buffer.data<T>(); }
  cuda::Factor<T> from_row(int64_t row) const { return {data() + row * columns, columns, false}; }
  cuda::Factor<T> plain() const { return from_row(0); }
  cuda::Factor<T> transposed() const { return {data(), columns, true}; }
};

// c[m, n] = beta c + alpha a b, sums of k products; c in rows of n.
void gpu_multiply(GpuDevice& device, int64_t m, int64_t n, int64_t k, cuda::Factor<float> a,
                  cuda::Factor<float> b, float* c, float alpha = 1, float beta = 0);

// As upper_cholesky() and solve_positive() of core/linalg.h, in tiles of other sizes.
bool gpu_upper_cholesky(GpuDevice& device, GpuMatrix<double>& a);
bool gpu_solve_positive(GpuDevice& device, GpuMatrix<double>& a, GpuMatrix<double>& b);

// The sum of all a[i] b[i], in f64; both [rows, columns].
double gpu_dot(GpuDevice& device, int64_t rows, int64_t columns, const float* a, const float* b);

// A mean over tokens of products x y^T, of vectors [n] and [k], which stays on the device until it
// is asked for.
class GpuProductMean {
 public:
  GpuProductMean(GpuDevice& device, int64_t n, int64_t k) : device_(device), mean_(device, n, k) {}

  // Takes in m more, x [m, n] and y [m, k] on the device, after `before`. Their numbers may be
  // rounded to 11 bits. Where x is y, only the upper triangle is kept.
  void add(int64_t before, int64_t m, const float* x, const float* y);
  void read(Buffer<float>* to);

 private:
  GpuDevice& device_;
  GpuMatrix<float> mean_;
  bool symmetric_ = false;
};

}  // namespace pith
