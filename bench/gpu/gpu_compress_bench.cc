// What compressing takes of a GPU, in seconds: the Gram matrix of inputs that come from memory, its
// factor, input correction and GPTQ of one layer. Medians of three; JSON to standard output, one
// object a line.
//
//   gpu_compress_bench [--quick]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "quant/gptq.h"
#include "runtime/compress/input_correction.h"
#include "runtime/cuda/gpu_algebra.h"
#include "runtime/cuda_kernels/ops_table.h"

namespace {

using namespace pith;

double seconds(GpuDevice& device, const std::function<void()>& run) {
  std::vector<double> all;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    device.wait();
    all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(all);
  return all[1];
}

std::vector<float> random_numbers(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> to(static_cast<size_t>(n));
  for (float& v : to) v = normal(random);
  return to;
}

void layer(GpuAlgebra& algebra, int64_t n, int64_t k, int64_t tokens) {
  constexpr int64_t kPiece = 1024;
  const auto x = random_numbers(kPiece * k, 1);
  auto w = random_numbers(n * k, 2);
  GpuDevice& device = algebra.gpu();
  InputStatistics s;
  const double gram = seconds(device, [&] {
    StatisticsBuilder builder(algebra, "x", {.gram = true}, k);
    Matrix<float> on(algebra, kPiece, k);
    for (int64_t t = 0; t < tokens; t += kPiece) {
      algebra.upload(x.data(), on.ref());
      builder.add(on);
    }
    s = builder.finish();
  });
  const GptqOptions options;
  const Encoding e = Encoding::integer(4, 128);
  std::unique_ptr<GptqFactor> factor;
  const double factored =
      seconds(device, [&] { factor = GptqFactor::make(algebra, s.gram.data(), k, 128, options); });
  const OwnedWeight to = allocate_weight(e, n, k);
  std::vector<uint64_t> row_hashes(static_cast<size_t>(n));
  const double rounded = seconds(device, [&] {
    algebra.for_row_panels(n, 1, GptqFactor::row_bytes(k, 128), [&](int64_t begin, int64_t end) {
      factor->encode(options, {e, n, k, begin, end - begin, w.data() + begin * k, nullptr, 0,
                               to.planes, row_hashes.data() + begin});
    });
  });
  factor = {};
  const auto compared = [&] {
    InputStatistics of;
    of.gram = Buffer<float>(k * k);
    of.cross_gram = Buffer<float>(k * k);
    std::copy(s.gram.begin(), s.gram.end(), of.gram.begin());
    std::copy(s.gram.begin(), s.gram.end(), of.cross_gram.begin());
    return of;
  };
  const InputStatistics fitted = compared();
  const double corrected = seconds(device, [&] {
    InputCorrection::make(algebra, fitted, compared(), k, {options.damping, options.shrink});
  });
  std::printf(
      "{\"what\": \"gptq int4-g128\", \"n\": %lld, \"k\": %lld, \"tokens\": %lld, \"gram_s\": "
      "%.3f, \"factor_s\": %.3f, \"round_s\": %.3f, \"correction_s\": %.3f}\n",
      static_cast<long long>(n), static_cast<long long>(k), static_cast<long long>(tokens), gram,
      factored, rounded, corrected);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  uint64_t free = 0, total = 0;
  if (const cuda::Status why = cuda::ops_table().memory(&free, &total)) {
    std::fprintf(stderr, "Skipped: no GPU (%s)\n", why);
    return 77;
  }
  GpuDevice device(cuda::ops_table());
  GpuAlgebra algebra(device, "GPU");
  layer(algebra, 4096, 4096, 65536);
  if (!quick) layer(algebra, 4096, 14336, 65536);
}
