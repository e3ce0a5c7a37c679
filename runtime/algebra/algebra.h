// Dense linear algebra where an executor works: on the host (runtime/cpu/cpu_algebra.h) or on a GPU
// (runtime/cuda/gpu_algebra.h). Calibration and the methods are written once over it and do not ask
// where they run; their statistics and factors are matrices in the memory of the algebra.
//
// Results do not depend on the number of threads or on the chip; those of two backends differ in
// the order of sums. Functions throw Error(kMemory) where memory is short, and Error(kUsage) where
// shapes do not fit; a matrix that cannot be factored is a result, not an error. Work is done in
// order; what is downloaded is complete. One thread at a time, but for bodies of for_row_panels().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/function_ref.h"
#include "core/matrix.h"

namespace pith {

class Algebra;

// A row-major matrix of f32 or f64 in the memory of an algebra, which it must not outlive: owned
// and zero when it is new, or borrowed from the host (Algebra::borrow).
template <class T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(Algebra& algebra, int64_t rows, int64_t columns);
  Matrix(Algebra& algebra, int64_t rows, int64_t columns, const T* host);
  Matrix(Matrix&& other) noexcept { *this = std::move(other); }
  Matrix& operator=(Matrix&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(columns_, other.columns_);
    return *this;
  }
  ~Matrix();

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t size() const { return rows_ * columns_; }
  uint64_t bytes() const { return static_cast<uint64_t>(size()) * sizeof(T); }
  bool empty() const { return size() == 0; }

  T* data() { return data_; }
  const T* data() const { return data_; }
  MatrixRef<T> ref() { return {data_, rows_, columns_}; }
  MatrixRef<const T> ref() const { return {data_, rows_, columns_}; }
  operator MatrixRef<T>() { return ref(); }
  operator MatrixRef<const T>() const { return ref(); }
  MatrixRef<T> row_block(int64_t begin, int64_t count) { return ref().row_block(begin, count); }
  MatrixRef<const T> row_block(int64_t begin, int64_t count) const {
    return ref().row_block(begin, count);
  }
  MatrixRef<const T> t() const { return ref().t(); }

 private:
  friend class Algebra;
  Algebra* owner_ = nullptr;
  T* data_ = nullptr;
  int64_t rows_ = 0, columns_ = 0;
};

// a [m, n] ~ u diag(s) v^T: u [m, r] and v [n, r] with orthonormal columns, s [r] descending.
struct LowRank {
  Matrix<double> u, v;
  std::vector<double> s;
};

class Algebra {
 public:
  virtual ~Algebra() = default;

  // What the bits of results depend on: "CPU, avx512", "CUDA, NVIDIA H200".
  virtual std::string name() const = 0;
  // The kind of its memory for a recipe: "cuda"; "" where that is the host's.
  virtual std::string device() const = 0;
  bool on_host() const { return device().empty(); }
  // Free bytes of a memory of its own; none where that is the host's.
  virtual std::optional<uint64_t> free_bytes() const = 0;

  // ---- memory

  virtual void* allocate(uint64_t bytes) = 0;  // zeros
  virtual void release(void* p) noexcept = 0;
  // `to` or `from` in its memory, the other one on the host.
  virtual void upload(void* to, const void* from, uint64_t bytes) = 0;
  virtual void download(void* to, const void* from, uint64_t bytes) = 0;
  virtual void copy(void* to, const void* from, uint64_t bytes) = 0;
  // Rows without gaps.
  template <class T>
  void upload(const T* from, MatrixRef<T> to) {
    upload(to.data, from, bytes_of(to));
  }
  template <class T>
  void download(MatrixRef<T> from, std::remove_const_t<T>* to) {
    download(to, from.data, bytes_of(from));
  }
  template <class From, class T>
  requires(std::is_same_v<std::remove_const_t<From>, T>) void copy(MatrixRef<From> from,
                                                                   MatrixRef<T> to) {
    require_contiguous(from.contiguous());
    copy(to.data, from.data, bytes_of(to));
  }
  // The host's numbers [rows, columns] in its memory: themselves where that is the host's (they
  // must outlive the matrix, and change with it), else a copy.
  template <class T>
  Matrix<T> borrow(T* host, int64_t rows, int64_t columns);
  template <class T>
  const Matrix<T> borrow(const T* host, int64_t rows, int64_t columns) {
    return borrow(const_cast<T*>(host), rows, columns);
  }
  // What became of a borrowed matrix, at `host`.
  template <class T>
  void give_back(const Matrix<T>& borrowed, T* host) {
    if (borrowed.data() != host) download(borrowed.ref(), host);
  }
  // On the host; without a copy where it is there.
  template <class T>
  Buffer<T> take(Matrix<T> m);
  // At least `rows` rows of `columns`, of which the first `kept` stay as they are.
  void reserve_rows(int64_t kept, int64_t rows, int64_t columns, Matrix<float>* m);

  // ---- products and sums

  // c = beta c + alpha a b; a, b and c do not overlap, c is not transposed; with beta 0 it is not
  // read.
  virtual void gemm(float alpha, MatrixRef<const float> a, MatrixRef<const float> b, float beta,
                    MatrixRef<float> c) = 0;
  virtual void gemm(double alpha, MatrixRef<const double> a, MatrixRef<const double> b, double beta,
                    MatrixRef<double> c) = 0;
  // y += by x; rows without gaps.
  virtual void add_scaled(float by, MatrixRef<const float> x, MatrixRef<float> y) = 0;
  // The sum of all a[i, j] b[i, j], in f64; rows without gaps.
  virtual double dot(MatrixRef<const float> a, MatrixRef<const float> b) = 0;
  virtual void convert(MatrixRef<const float> from, MatrixRef<double> to) = 0;
  virtual void convert(MatrixRef<const double> from, MatrixRef<float> to) = 0;
  // to[i, j] = unit a[order[i], order[j]] off the diagonal, diagonal[order[i]] + damping on it; all
  // [k, k]. Without an order, things stay in place.
  virtual void permute_and_damp(MatrixRef<const float> a, std::span<const int64_t> order,
                                std::span<const float> diagonal, double unit, double damping,
                                MatrixRef<double> to) = 0;

  // Running statistics over tokens: x [m, k] and y [m, n] come after `before` others. `mean` [n, k]
  // of y_t x_t^T; where y is x, only the upper triangle is kept up (mirror_upper). On a GPU factors
  // may be rounded to 11 bits.
  virtual void add_to_mean(int64_t before, MatrixRef<const float> y, MatrixRef<const float> x,
                           MatrixRef<float> mean) = 0;
  // mean_square [1, k] and absmax [1, k] of each column. Where a number is not finite, its mean
  // square is not.
  virtual void add_to_moments(int64_t before, MatrixRef<const float> x,
                              MatrixRef<double> mean_square, MatrixRef<float> absmax) = 0;
  // Rows of x that are worth collecting before they are added to a mean.
  virtual int64_t tokens_together() const = 0;

  // ---- factors

  // a [n, n] = U U^T, U upper triangular, in place: upper_cholesky() of core/linalg.h. False where
  // a is not positive definite or not finite, and its content is lost.
  [[nodiscard]] virtual bool cholesky(Matrix<double>& a) = 0;
  // x U = b, or x U^T = b, for rows b [m, n] in place: solve_upper() of core/linalg.h.
  virtual void solve_upper(const Matrix<double>& u, bool transposed, MatrixRef<double> b) = 0;
  // x a = b for rows b in place; a positive definite, lost. False where it is not.
  [[nodiscard]] bool solve_positive(Matrix<double>& a, MatrixRef<double> b);
  // a [m, n] = q r with m >= n: q with orthonormal columns in the place of a, whatever the rank of
  // a; returns r [n, n]. Which triangle of r is zero is up to the backend.
  virtual Matrix<double> qr(Matrix<double>& a) = 0;
  // All of the singular values, by Jacobi rotations of r on the host: for up to some hundred
  // columns or rows.
  LowRank svd(MatrixRef<const double> a);
  // The largest `rank` of them by a randomized range finder with `power` power iterations (Halko,
  // Martinsson and Tropp 2011, algorithms 4.4 and 5.1), for any size. The probe has 10 columns more
  // and follows from the seed. The error is within a few percent of the best rank's where singular
  // values decay slowly, and near it where they do not.
  LowRank svd(MatrixRef<const double> a, int64_t rank, int power = 2, uint64_t seed = 0);
  // a [n, n] symmetric: eigenvalues, descending, and eigenvectors in rows. On the host.
  std::pair<std::vector<double>, Matrix<double>> symmetric_eigen(const Matrix<double>& a);

  // ---- rows of a weight

  // body(begin, end) for panels of n rows that each take `row_bytes` of workspace: on the host of
  // about 48 rows, shared out to threads; on a GPU of as many as a fixed workspace holds, one after
  // another. Panels begin at multiples of `step`.
  virtual void for_row_panels(int64_t n, int64_t step, uint64_t row_bytes,
                              FunctionRef<void(int64_t, int64_t)> body) = 0;

 private:
  template <class T>
  uint64_t bytes_of(const MatrixRef<T>& a) {
    require_contiguous(a.contiguous());
    return static_cast<uint64_t>(a.rows * a.columns) * sizeof(T);
  }
  static void require_contiguous(bool is);
};

// The lower triangle of a [n, n] becomes the mirror of the upper one.
void mirror_upper(int64_t n, float* a);

template <class T>
Matrix<T>::Matrix(Algebra& algebra, int64_t rows, int64_t columns)
    : owner_(&algebra), rows_(rows), columns_(columns) {
  data_ = static_cast<T*>(algebra.allocate(bytes()));
}
template <class T>
Matrix<T>::Matrix(Algebra& algebra, int64_t rows, int64_t columns, const T* host)
    : Matrix(algebra, rows, columns) {
  algebra.upload(data_, host, bytes());
}
template <class T>
Matrix<T>::~Matrix() {
  if (owner_ != nullptr) owner_->release(data_);
}

template <class T>
Matrix<T> Algebra::borrow(T* host, int64_t rows, int64_t columns) {
  if (!on_host()) return {*this, rows, columns, host};
  Matrix<T> to;
  to.data_ = host;
  to.rows_ = rows;
  to.columns_ = columns;
  return to;
}
template <class T>
Buffer<T> Algebra::take(Matrix<T> m) {
  if (on_host() && m.owner_ != nullptr) {
    m.owner_ = nullptr;
    return Buffer<T>::adopt(m.data_, m.size());
  }
  Buffer<T> to(m.size());
  download(m.ref(), to.data());
  return to;
}

}  // namespace pith
