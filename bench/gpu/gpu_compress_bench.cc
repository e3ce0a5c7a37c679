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

#include "quant/gptq_gpu.h"
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

void layer(GpuDevice& device, int64_t n, int64_t k, int64_t tokens) {
  constexpr int64_t kPiece = 1024;
  const auto x = random_numbers(kPiece * k, 1), w = random_numbers(n * k, 2);
  InputStatistics s;
  const double gram = seconds(device, [&] {
    GpuProductMean mean(device, k, k);
    GpuBuffer on(device, x.size() * sizeof(float));
    for (int64_t t = 0; t < tokens; t += kPiece) {
      device.upload(on.data(), x.data(), on.bytes());
      mean.add(t, kPiece, on.data<float>(), on.data<float>());
    }
    mean.read(&s.gram);
  });
  const GptqOptions options;
  const Encoding e = Encoding::integer(4, 128);
  std::unique_ptr<GptqFactor> factor;
  const double factored =
      seconds(device, [&] { factor = GptqFactor::make(s.gram.data(), k, 128, options, &device); });
  const OwnedWeight to = allocate_weight(e, n, k);
  std::vector<uint64_t> meant(static_cast<size_t>(n));
  const double rounded = seconds(device, [&] {
    const int64_t step = gptq_gpu_rows(k, 128);
    for (int64_t r = 0; r < n; r += step) {
      const int64_t rows = std::min(step, n - r);
      const float* const here = w.data() + r * k;
      const GpuMatrix<float> on(device, rows, k, here);
      encode_gptq_on_gpu(*factor, options,
                         {e, n, k, r, rows, here, nullptr, 0, to.planes, meant.data() + r},
                         on.data());
    }
  });
  factor = {};
  s.cross = Buffer<float>(k * k);
  std::copy(s.gram.begin(), s.gram.end(), s.cross.begin());
  const double corrected =
      seconds(device, [&] { GpuCorrection::make(device, s, s, k, options.damping); });
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
  layer(device, 4096, 4096, 65536);
  if (!quick) layer(device, 4096, 14336, 65536);
}
