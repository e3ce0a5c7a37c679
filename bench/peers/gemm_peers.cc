// y[m,n] = x[m,k] w[n,k]^T in f32: matmul() against sgemm of OpenBLAS and of oneDNN, in turns, so
// that what else the machine does meets all of them alike. Prints medians.
//
//   cmake --build build/release --target gemm_peers && build/release/bin/gemm_peers [rounds]
#include <cblas.h>
#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/encodings/names.h"
#include "runtime/cpu/matmul.h"

namespace {

using pith::Buffer;

struct Size {
  int64_t m, n, k;
};
constexpr Size kSizes[] = {{512, 2048, 2048}, {512, 576, 1536}, {64, 2048, 2048}, {8, 2048, 2048}};

struct Contestant {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds;
};

Buffer<float> random_matrix(int64_t size, uint64_t stream) {
  Buffer<float> out(size);
  const pith::Rng rng(1, stream);
  for (int64_t i = 0; i < size; ++i)
    out[i] = static_cast<float>(rng.uniform_at(static_cast<uint64_t>(i)) - 0.5);
  return out;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void compare(const Size& size, int rounds) {
  const auto [m, n, k] = size;
  const Buffer<float> x = random_matrix(m * k, 1), dense = random_matrix(n * k, 2);
  Buffer<float> y(m * n), expected(m * n);
  const pith::Weight w = pith::encode(pith::Encoding::dense(pith::DType::kF32), n, k, dense.data());
  const pith::Weight w4 = pith::encode(pith::Encoding::integer(4, 64), n, k, dense.data());
  pith::MatmulScratch scratch;
  const auto ours = [&](const pith::Weight& weight) {
    pith::matmul(pith::cpu_kernels(), weight, x.data(), m, y.data(), false, scratch);
  };
  Contestant contestants[] = {
      {"pith f32", [&] { ours(w); }, {}},
      {"OpenBLAS sgemm",
       [&] {
         cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m),
                     static_cast<int>(n), static_cast<int>(k), 1, x.data(), static_cast<int>(k),
                     dense.data(), static_cast<int>(k), 0, y.data(), static_cast<int>(n));
       },
       {}},
      {"oneDNN sgemm",
       [&] { dnnl_sgemm('N', 'T', m, n, k, 1, x.data(), k, dense.data(), k, 0, y.data(), n); },
       {}},
      {"pith int4-g64", [&] { ours(w4); }, {}},
  };
  contestants[0].run();
  std::copy(y.begin(), y.end(), expected.begin());
  for (int round = -1; round < rounds; ++round) {  // the first one warms up
    for (auto& c : contestants) {
      const auto start = std::chrono::steady_clock::now();
      c.run();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round >= 0) c.seconds.push_back(took.count());
      if (round >= 0 || c.name == "pith int4-g64") continue;
      float off = 0;
      for (int64_t i = 0; i < m * n; ++i) off = std::max(off, std::fabs(y[i] - expected[i]));
      if (off > 1e-3f * std::sqrt(static_cast<float>(k))) {
        std::printf("%s differs by %g\n", c.name.c_str(), static_cast<double>(off));
      }
    }
  }
  std::printf("m=%ld n=%ld k=%ld\n", m, n, k);
  for (const auto& c : contestants) {
    const double best = *std::min_element(c.seconds.begin(), c.seconds.end());
    const double flops = 2.0 * static_cast<double>(m * n * k);
    std::printf("  %-16s %8.1f GFLOP/s median, %8.1f best\n", c.name.c_str(),
                flops / median(c.seconds) * 1e-9, flops / best * 1e-9);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 31;
  if (argc > 1 && (!pith::parse_whole(argv[1], &rounds) || rounds < 1)) return 2;
  const int threads = pith::thread_count();
  openblas_set_num_threads(threads);
  omp_set_num_threads(threads);
  std::printf("%s kernels, %d threads, %d rounds, %s\n", pith::cpu_kernels().name, threads, rounds,
              openblas_get_config());
  for (const Size& size : kSizes) compare(size, rounds);
}
