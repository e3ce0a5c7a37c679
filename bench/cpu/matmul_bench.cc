// matmul() for every encoding that can be written, at n = k = 4096 and m = 1 (decoding one
// sequence) to 512 (prefill), beside the bandwidth of plain reading; with 57344 rows, more than
// caches hold, where it says memory. f32_inputs: inputs as they are; int8_inputs: rounded on the
// fly.
//
//   build/release/bin/matmul_bench --benchmark_filter='int8_inputs/int4.*/m:1/'
//
// bytes_per_second counts the planes of the weight once, x and y; flops are 2 m n k. At m = 1 the
// bound is read_bandwidth, at m = 512 arithmetic.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/encodings/encoding.h"
#include "runtime/cpu/matmul.h"

namespace pith {
namespace {

constexpr int64_t kN = 4096, kK = 4096, kLargeN = 57344;

constexpr const char* kEncodings[] = {
    "f32",      "f16",           "bf16",          "fp8e4m3-row", "fp8e5m2-row", "fp8e4m3-128x128",
    "int8-row", "int8-g64",      "int6-g64",      "int5-g64",    "int4-g128",   "int4-g64",
    "int4-g32", "int4-g64-asym", "int4-g64-s8",   "int3-g64",    "int2-g64",    "nf4-g64",
    "mxfp4",    "int5-g64-asym", "int6-g64-asym", "tcq4-g64",    "tcq3-g64",    "tcq2-g64",
};

Buffer<float> random_matrix(int64_t rows, int64_t columns, uint64_t stream) {
  Buffer<float> out(rows * columns);
  const Rng rng(1, stream);
  for (int64_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(rng.uniform_at(static_cast<uint64_t>(i)) - 0.5);
  return out;
}

// One weight is kept: the benchmarks run encoding by encoding.
const Weight& weight(const std::string& name, int64_t n) {
  static std::string kept;
  static Weight w;
  if (kept != name || w.n != n) {
    const Buffer<float> values = random_matrix(n, kK, 1);
    w = encode(parse_encoding(name), n, kK, values.data());
    kept = name;
  }
  return w;
}

void run_matmul(benchmark::State& state, const char* name, int64_t n, int64_t m, bool int8) {
  const Weight& w = weight(name, n);
  const Buffer<float> x = random_matrix(m, kK, 2);
  Buffer<float> y(m * n);
  MatmulScratch scratch;
  RoundedInputs rounded;
  for (auto _ : state) {
    if (int8) {
      rounded.set_blocks(input_block(w.encoding), x.data(), m, kK);
      matmul(cpu_kernels(), w, rounded, y.data(), false, scratch);
    } else {
      matmul(cpu_kernels(), w, x.data(), m, y.data(), false, scratch);
    }
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  const auto once = static_cast<int64_t>(w.bytes()) + 4 * (x.size() + y.size());
  state.SetBytesProcessed(state.iterations() * once);
  state.counters["flops"] = benchmark::Counter(2.0 * static_cast<double>(m * n * kK),
                                               benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bits"] = 8.0 * static_cast<double>(w.bytes()) / static_cast<double>(n * kK);
}

// What reading alone takes, by all threads, from memory that no cache holds.
void read_bandwidth(benchmark::State& state) {
  constexpr int64_t kWords = int64_t{64} << 20;  // 512 MiB
  static Buffer<uint64_t> data(kWords);
  std::memset(data.data(), 1, static_cast<size_t>(kWords) * sizeof(uint64_t));
  for (auto _ : state) {
    parallel_ranges(kWords, 1 << 17, [&](int64_t begin, int64_t end) {
      uint64_t sum[8] = {};
      for (int64_t i = begin; i < end; i += 8) {
        for (int64_t j = 0; j < 8; ++j) sum[j] += data[i + j];
      }
      benchmark::DoNotOptimize(sum);
    });
  }
  state.SetBytesProcessed(state.iterations() * kWords * static_cast<int64_t>(sizeof(uint64_t)));
}

void register_all() {
  benchmark::RegisterBenchmark("read_bandwidth", read_bandwidth)->UseRealTime();
  for (const char* name : kEncodings) {
    for (const bool int8 : {false, true}) {
      if (int8 && !has_int_matmul(parse_encoding(name))) continue;
      const auto add = [&](const char* from, int64_t n, int64_t m) {
        benchmark::RegisterBenchmark(
            fmt::format("{}/{}/{}/m:{}", int8 ? "int8_inputs" : "f32_inputs", name, from, m)
                .c_str(),
            [=](benchmark::State& state) { run_matmul(state, name, n, m, int8); })
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      };
      for (const int64_t m : {1, 4, 8, 32, 512}) add("cache", kN, m);
      add("memory", kLargeN, 1);
    }
  }
}

}  // namespace
}  // namespace pith

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("kernels", pith::cpu_kernels().name);
  benchmark::AddCustomContext("threads", std::to_string(pith::thread_count()));
  pith::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
