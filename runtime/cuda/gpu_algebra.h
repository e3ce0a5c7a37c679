// Linear algebra on a GPU (runtime/cuda_kernels/compress/dense_algebra.h). Sums are taken in order,
// so that results do not depend on the chip, but for means of products, which cuBLAS may take.
#pragma once

#include "runtime/algebra/algebra.h"
#include "runtime/cuda/device_memory.h"

namespace pith {

class GpuAlgebra final : public Algebra {
 public:
  GpuAlgebra(GpuDevice& device, std::string name) : gpu_(device), name_(std::move(name)) {}

  // For kernels of one method that are no linear algebra.
  GpuDevice& gpu() { return gpu_; }
  // Rows of a panel of for_row_panels(): as many as 2 GiB hold, so that results do not depend on
  // the device.
  static int64_t panel_rows(uint64_t row_bytes);

  std::string name() const override { return name_; }
  std::string device() const override { return "cuda"; }
  std::optional<uint64_t> free_bytes() const override { return gpu_.free_bytes(); }

  void* allocate(uint64_t bytes) override;
  void release(void* p) noexcept override;
  using Algebra::copy;
  using Algebra::download;
  using Algebra::upload;
  void upload(void* to, const void* from, uint64_t bytes) override { gpu_.upload(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) override {
    gpu_.download(to, from, bytes);
  }
  void copy(void* to, const void* from, uint64_t bytes) override { gpu_.copy(to, from, bytes); }

  void gemm(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
            MatrixRef<float> c) override;
  void gemm(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
            MatrixRef<double> c) override;
  void add_scaled(float by, MatrixRef<const float> x, MatrixRef<float> y) override;
  double dot(MatrixRef<const float> a, MatrixRef<const float> b) override;
  void convert(MatrixRef<const float> from, MatrixRef<double> to) override;
  void convert(MatrixRef<const double> from, MatrixRef<float> to) override;
  void permute_and_damp(MatrixRef<const float> a, std::span<const int64_t> order,
                        std::span<const float> diagonal, double unit, double damping,
                        MatrixRef<double> to) override;
  void add_to_mean(int64_t before, MatrixRef<const float> y, MatrixRef<const float> x,
                   MatrixRef<float> mean) override;
  void add_to_moments(int64_t before, MatrixRef<const float> x, MatrixRef<double> mean_square,
                      MatrixRef<float> absmax) override;
  int64_t tokens_together() const override { return 0; }  // windows go in as they come

  bool cholesky(Matrix<double>& a) override;
  void solve_upper(const Matrix<double>& u, bool transposed, MatrixRef<double> b) override;
  // Cholesky QR twice (Yamamoto et al. 2015); where the columns are too near to dependent for it,
  // Householder reflections on the host.
  Matrix<double> qr(Matrix<double>& a) override;

  void for_row_panels(int64_t n, int64_t step, uint64_t row_bytes,
                      FunctionRef<void(int64_t, int64_t)> body) override;

 private:
  bool cholesky_qr(Matrix<double>& a);

  GpuDevice& gpu_;
  std::string name_;
};

}  // namespace pith
