// Linear algebra of compression on the processor, in seconds by the clock and of all
// threads: the Gram matrix of 1024 tokens,
// Cholesky, QR, singular values and eigenvalues in the sizes of a model of 135M parameters. Medians
// of five; JSON to standard output, one object a line.
//
//   algebra_bench

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "core/linalg.h"
#include "core/rng.h"
#include "runtime/cpu/cpu_algebra.h"

namespace {

using namespace pith;

void report(const char* what, int64_t m, int64_t n, const std::function<void()>& run) {
  std::vector<double> wall, cpu;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const std::clock_t before = std::clock();
    run();
    cpu.push_back(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
    wall.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(wall);
  std::ranges::sort(cpu);
  std::printf(
      "{\"what\": \"%s\", \"m\": %lld, \"n\": %lld, \"seconds\": %.4f, \"cpu_seconds\": %.4f}\n",
      what, static_cast<long long>(m), static_cast<long long>(n), wall[2], cpu[2]);
  std::fflush(stdout);
}

template <class T>
std::vector<T> numbers(int64_t n) {
  const Rng rng(1);
  std::vector<T> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(rng.uniform_at(i) - 0.5);
  return out;
}

}  // namespace

int main() {
  Algebra& algebra = cpu_algebra();
  const int64_t tokens = 1024, k = 1536, n = 576;
  const auto x = numbers<float>(tokens * k);
  const Matrix<float> inputs = algebra.borrow(x.data(), tokens, k);
  Matrix<float> gram(algebra, k, k);
  report("Gram matrix of f32", tokens, k, [&] { algebra.add_to_mean(0, inputs, inputs, gram); });
  std::vector<float> diagonal(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) diagonal[static_cast<size_t>(i)] = gram.ref()(i, i);
  report("Cholesky", k, k, [&] {
    Matrix<double> h(algebra, k, k);
    algebra.permute_and_damp(gram, {}, diagonal, 1, 0.1, h);
    if (!algebra.cholesky(h)) std::puts("failed");
  });
  const auto a = numbers<double>(k * n);
  const Matrix<double> weight(algebra, k, n, a.data());
  report("QR", k, n, [&] {
    Matrix<double> q(algebra, k, n, a.data());
    algebra.qr(q);
  });
  report("randomized SVD, rank 64", k, n, [&] { algebra.svd(weight.ref(), 64); });
  report("SVD", 256, 256, [&] { svd({a.data(), 256, 256}); });
  report("SVD", k, n, [&] { algebra.svd(weight.ref()); });
  Matrix<double> square(algebra, n, n);
  algebra.gemm(1, weight.t(), weight, 0, square);
  report("eigenvalues and eigenvectors", n, n, [&] { algebra.symmetric_eigen(square); });
}
