// The kernels of the CUDA backend one by one: medians of CUDA events, beside what the chip copies
// and what cuBLAS multiplies in the same run. Weights and caches are random and are taken in turns
// from more memory than the L2 cache holds. JSON to standard output, one object a line.
//
//   gpu_bench [--quick]
//   gpu_bench --plans     products of 16 to 128 tokens by every plan (gemm/gemm_plan.h)

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "runtime/cuda_kernels/gemm/gemm_plan.h"
#include "runtime/cuda_kernels/ops_table.h"

namespace {

using pith::NumberFormat;
using namespace pith::cuda;

constexpr uint64_t kTurns = uint64_t{256} << 20;  // bytes that are gone through before any again

void must(Status status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "gpu_bench: %s\n", status);
  std::exit(1);
}
void must(cudaError_t status) {
  must(status == cudaSuccess ? nullptr : cudaGetErrorString(status));
}

const Ops& ops = ops_table();
Stream stream;
int rounds = 30;

// Random bytes that are finite as f16, bf16 and f32: no exponent of all ones.
struct Memory {
  void* data = nullptr;
  explicit Memory(uint64_t bytes) {
    must(ops.allocate(bytes, &data));
    std::vector<uint32_t> some(1 << 20);
    std::mt19937 random(1);
    for (auto& v : some) v = random() & 0xbfffbfffu;
    for (uint64_t at = 0; at < bytes; at += some.size() * 4) {
      must(ops.upload(static_cast<char*>(data) + at, some.data(),
                      std::min<uint64_t>(bytes - at, some.size() * 4), stream));
    }
    must(ops.wait(stream));
  }
  ~Memory() { ops.release(data); }
  Memory(const Memory&) = delete;
  template <class T>
  T* as(uint64_t offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data) + offset);
  }
};

struct Times {
  double median, low, high;  // microseconds
};
// run(turn), one after the other.
Times measure(const std::function<void(int)>& run) {
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  std::vector<double> all;
  for (int i = 0; i < rounds + 3; ++i) {
    must(cudaEventRecord(begin, static_cast<cudaStream_t>(stream)));
    run(i);
    must(cudaEventRecord(end, static_cast<cudaStream_t>(stream)));
    must(cudaEventSynchronize(end));
    float ms = 0;
    must(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) all.push_back(static_cast<double>(ms) * 1000);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all.front(), all.back()};
}

double copy_bytes_per_us;

void report(const std::string& what, const Times& t, double bytes, double operations,
            double beside) {
  std::printf(
      "{\"what\": \"%s\", \"median_us\": %.2f, \"low_us\": %.2f, \"high_us\": %.2f, "
      "\"gb_per_s\": %.1f, \"of_copy\": %.3f, \"tera_ops_per_s\": %.2f, \"of_cublas\": %.3f}\n",
      what.c_str(), t.median, t.low, t.high, bytes / t.median / 1e3,
      bytes / t.median / copy_bytes_per_us, operations / t.median / 1e6,
      beside > 0 ? beside / t.median : 0);
  std::fflush(stdout);
}

TileWeight weight_in(const Memory& memory, NumberFormat format, int64_t n, int64_t k, int group,
                     int turn, double* bytes) {
  TileWeight w{};
  w.format = format;
  w.scale_type = Scales::kF16;
  w.n = n;
  w.k = k;
  w.tiles = n / 16;
  w.stages = k / kStageColumns;
  w.groups = k / group;
  w.group_shift = std::countr_zero(static_cast<unsigned>(group / 16));
  w.zero = 8;
  const Parts parts = parts_of(format);
  const auto low = static_cast<uint64_t>(part_bytes(w.tiles, w.stages, parts.low)),
             high = static_cast<uint64_t>(part_bytes(w.tiles, w.stages, parts.high)),
             scales = static_cast<uint64_t>(n * w.groups * 2), all = low + high + scales;
  *bytes = static_cast<double>(all);
  const uint64_t at = static_cast<uint64_t>(turn) % std::max<uint64_t>(1, kTurns / all) * all;
  w.low = memory.as<void>(at);
  w.high = high > 0 ? memory.as<void>(at + low) : nullptr;
  w.scales = memory.as<void>(at + low + high);
  return w;
}

// A GEMM by a plan, with its workspace.
class Product {
 public:
  Product(const TileWeight& w, const HalfInputs& x, float* y, const GemmPlan* plan = nullptr)
      : a_{{{w, y, w.n, nullptr}}, 1, x, false, {}, {}} {
    Chip chip;
    must(ops.chip(&chip));
    a_.plan = plan != nullptr ? *plan : plan_gemm(a_, chip);
    const auto blocks = static_cast<uint64_t>(blocks_of(a_, a_.plan));
    must(ops.allocate(std::max<uint64_t>(16, workspace_bytes(a_, a_.plan)), &a_.workspace.sums));
    void* arrived = nullptr;
    must(ops.allocate(blocks * 4, &arrived));
    a_.workspace.arrived = static_cast<int32_t*>(arrived);
  }
  ~Product() {
    ops.release(a_.workspace.sums);
    ops.release(a_.workspace.arrived);
  }
  Product(const Product&) = delete;
  void run(const TileWeight& w) const {
    QuantGemm a = a_;
    a.to[0].w = w;
    must(ops.quant_gemm(a, stream));
  }

 private:
  QuantGemm a_;
};

// Every plan for a product of m tokens that the chip has the shared memory for.
std::vector<GemmPlan> plans_of(int64_t m, const Chip& chip) {
  std::vector<GemmPlan> all;
  for (const int32_t warps : {2, 4, 8}) {
    for (const int32_t stages : {2, 3, 4}) {
      for (const int32_t splits : {1, 2, 4, 8}) {
        const GemmPlan plan{static_cast<int32_t>(std::min<int64_t>(m, 64)), warps, stages, splits};
        if (shared_bytes(NumberFormat::kInt4, 2, plan) <= chip.shared_bytes) all.push_back(plan);
      }
    }
  }
  return all;
}

void plans() {
  Chip chip;
  must(ops.chip(&chip));
  const int64_t shapes[][2] = {{4096, 4096}, {14336, 4096}, {4096, 14336}, {28672, 8192}};
  const Memory weights(2 * kTurns), x(uint64_t{128} * 14336 * 2), scales(128 * 4),
      y(uint64_t{128} * 28672 * 4);
  for (const auto& shape : shapes) {
    const int64_t n = shape[0], k = shape[1];
    for (const int64_t m : {16, 32, 64, 128}) {
      for (const GemmPlan& plan : plans_of(m, chip)) {
        double bytes = 0;
        const auto weight = [&](int turn) {
          return weight_in(weights, NumberFormat::kInt4, n, k, 128, turn, &bytes);
        };
        const HalfInputs inputs{x.as<uint16_t>(), k, scales.as<float>(), m};
        const Product product(weight(0), inputs, y.as<float>(), &plan);
        const Times t = measure([&](int turn) { product.run(weight(turn)); });
        report("plan int4-g128 " + std::to_string(k) + "x" + std::to_string(n) +
                   " m=" + std::to_string(m) + " warps=" + std::to_string(plan.warps) + " stages=" +
                   std::to_string(plan.stages) + " splits=" + std::to_string(plan.splits),
               t, bytes,
               2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), 0);
      }
    }
  }
}

// As the executor goes through a weight for cuBLAS.
void by_pieces(const TileWeight& w, int64_t m, const std::function<void(int64_t, int64_t)>& f) {
  const int64_t tiles = std::clamp<int64_t>((int64_t{1} << 22) / m / 16, 1, w.tiles);
  for (int64_t first = 0; first < w.tiles; first += tiles)
    f(first, std::min(tiles, w.tiles - first));
}

void products(bool quick) {
  struct Type {
    const char* name;
    NumberFormat format;
    int group;
  };
  const Type types[] = {
      {"int4-g128", NumberFormat::kInt4, 128}, {"int4-g64", NumberFormat::kInt4, 64},
      {"int8-g128", NumberFormat::kInt8, 128}, {"int3-g64", NumberFormat::kInt3, 64},
      {"nf4-g64", NumberFormat::kNf4, 64},     {"mxfp4", NumberFormat::kE2M1, 32},
      {"e4m3-g128", NumberFormat::kE4M3, 128}};
  const int64_t shapes[][2] = {{4096, 4096}, {14336, 4096}, {4096, 14336}, {28672, 8192}};
  const int64_t most = quick ? 64 : 4096;
  const Memory weights(2 * kTurns), halves(uint64_t{28672} * 8192 * 2),
      x(static_cast<uint64_t>(most) * 14336 * 2), scales(static_cast<uint64_t>(most) * 4),
      codes(static_cast<uint64_t>(most) * 14336), y(static_cast<uint64_t>(most) * 28672 * 4),
      sums(static_cast<uint64_t>(most) * 28672 * 4);
  for (const auto& shape : shapes) {
    const int64_t n = shape[0], k = shape[1];
    for (const int64_t m : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
      if (m > most) break;
      const HalfInputs inputs{x.as<uint16_t>(), k, scales.as<float>(), m};
      const double operations =
          2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
      const std::string of =
          " " + std::to_string(k) + "x" + std::to_string(n) + " m=" + std::to_string(m);
      double beside = 0;
      if (ops.has_cublas()) {
        const Times t = measure([&](int turn) {
          const uint64_t size = static_cast<uint64_t>(n * k) * 2,
                         at = static_cast<uint64_t>(turn) % (uint64_t{28672} * 8192 * 2 / size) *
                              size;
          must(ops.cublas_gemm_f16({halves.as<uint16_t>(at), n, inputs, y.as<float>()}, stream));
        });
        beside = t.median;
        report("cublas-f16" + of, t, static_cast<double>(n * k) * 2, operations, beside);
      }
      for (const Type& type : types) {
        double bytes = 0;
        if (m <= 256) {
          const Product product(weight_in(weights, type.format, n, k, type.group, 0, &bytes),
                                inputs, y.as<float>());
          const Times t = measure([&](int turn) {
            product.run(weight_in(weights, type.format, n, k, type.group, turn, &bytes));
          });
          report(std::string("quant_gemm ") + type.name + of, t, bytes, operations, beside);
        }
        if (m < 64 || beside == 0 || type.format != NumberFormat::kInt4) continue;
        const Times t = measure([&](int turn) {
          const TileWeight w = weight_in(weights, type.format, n, k, type.group, turn, &bytes);
          by_pieces(w, m, [&](int64_t first, int64_t count) {
            must(ops.dequantize({w, first, count, halves.as<uint16_t>()}, stream));
            must(ops.cublas_gemm_f16({halves.as<uint16_t>(), count * 16, inputs, sums.as<float>()},
                                     stream));
            must(ops.gemm_epilogue({sums.as<float>(), count * 16, count * 16, scales.as<float>(), m,
                                    y.as<float>() + first * 16, n, nullptr, false},
                                   stream));
          });
        });
        report(std::string("dequantize+cublas ") + type.name + of, t, bytes, operations, beside);
      }
      for (const bool floats : {false, true}) {
        if (m < 64 || !ops.has_cublas_gemm_8(floats)) continue;
        double bytes = 0;
        const Times t = measure([&](int turn) {
          TileWeight w = weight_in(weights, floats ? NumberFormat::kE4M3 : NumberFormat::kInt8, n,
                                   k, static_cast<int>(k), turn, &bytes);
          w.group_shift = kWholeRow;
          w.zero = 128;
          if (floats)
            must(ops.half_to_e4m3({x.as<uint16_t>(), m * k, codes.as<uint8_t>()}, stream));
          by_pieces(w, m, [&](int64_t first, int64_t count) {
            const int64_t rows = count * 16;
            must(ops.unpack_bytes({w, first, count, halves.data}, stream));
            must(ops.cublas_gemm_8({halves.data, codes.data, m, rows, k, floats, sums.data},
                                   stream));
            must(ops.gemm_8_epilogue(
                {sums.data, floats, rows, rows, m, w, first * 16, scales.as<float>(),
                 y.as<float>() + first * 16, n, nullptr, false},
                stream));
          });
        });
        report((floats ? "fp8 by cublas" : "int8 by cublas") + of, t, bytes, operations, beside);
      }
    }
  }
}

struct HeadShape {
  const char* name;
  int64_t heads, kv_heads, d;
  bool latent;  // keys are values
};

void attention(const HeadShape& shape, bool quick) {
  struct Type {
    const char* name;
    NumberFormat type;
    uint64_t bytes;
  };
  const Type types[] = {{"f16", NumberFormat::kF16, 2},
                        {"int8", NumberFormat::kInt8, 1},
                        {"fp8", NumberFormat::kE4M3, 1}};
  const int64_t heads = shape.heads, kv_heads = shape.kv_heads, d = shape.d;
  void* arrived = nullptr;  // zeroed
  must(ops.allocate(8 * (heads + 1) * 4, &arrived));
  for (const int64_t batch : {1, 8}) {
    for (const int64_t length : {1024, 8192, 32768}) {
      if (quick && length > 8192) continue;
      const int64_t per_slot = length / kPageTokens, layers = 1 + (1 << 18) / (batch * length);
      std::vector<int32_t> pages(static_cast<size_t>(batch * per_slot)), slots, at;
      for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
      for (int64_t b = 0; b < batch; ++b) {
        slots.push_back(static_cast<int32_t>(b));
        at.push_back(static_cast<int32_t>(length - 1));
      }
      const Memory of_pages(pages.size() * 4), of_slots(64), of_at(64);
      must(ops.upload(of_pages.data, pages.data(), pages.size() * 4, stream));
      must(ops.upload(of_slots.data, slots.data(), slots.size() * 4, stream));
      must(ops.upload(of_at.data, at.data(), at.size() * 4, stream));
      must(ops.wait(stream));
      const int64_t chunks = chunks_within(length, kv_heads);
      const uint64_t rows = static_cast<uint64_t>(batch * length * kv_heads);
      const Memory q(static_cast<uint64_t>(batch * heads * d) * 4),
          out(static_cast<uint64_t>(batch * heads * d) * 4),
          sums(static_cast<uint64_t>(batch * heads * chunks * chunk_floats(d)) * 4),
          keys(rows * d * 2 * static_cast<uint64_t>(layers)),
          values(rows * d * 2 * static_cast<uint64_t>(layers)), scales(rows * 4);
      for (const Type& type : types) {
        float* const of_rows = type.bytes == 1 ? scales.as<float>() : nullptr;
        const Times t = measure([&](int turn) {
          const uint64_t layer =
              rows * d * type.bytes * (static_cast<uint64_t>(turn) % static_cast<uint64_t>(layers));
          const CachePlane of_values{type.type, values.as<char>(layer), of_rows};
          const Cache cache{{type.type, keys.as<char>(layer), of_rows},
                            shape.latent ? CachePlane{type.type, nullptr, nullptr} : of_values,
                            of_pages.as<int32_t>(),
                            per_slot,
                            kv_heads,
                            d};
          must(ops.decode_attention({cache,
                                     {of_slots.as<int32_t>(), of_at.as<int32_t>(), batch},
                                     q.as<float>(),
                                     heads,
                                     0,
                                     0.088f,
                                     0,
                                     nullptr,
                                     chunks,
                                     sums.as<float>(),
                                     out.as<float>(),
                                     static_cast<int32_t*>(arrived),
                                     {},
                                     {}},
                                    stream));
        });
        report(std::string("decode_attention ") + shape.name + " " + type.name +
                   " batch=" + std::to_string(batch) + " context=" + std::to_string(length),
               t, static_cast<double>(rows * d * type.bytes * (shape.latent ? 1 : 2)),
               shape.latent ? 2.0 * static_cast<double>(batch * length * heads) * (576 + 512) : 0,
               0);
      }
    }
  }
  ops.release(arrived);
}

// Gate and up of a MoE of 128 experts, 8 of which each token chooses, both ways. Bytes are
// those of as many experts as there are pairs, or all.
void experts(bool quick) {
  constexpr int32_t kExperts = 128, kChosen = 8;
  const int64_t n = 768, k = 2048, most = quick ? 64 : 4096, most_pairs = most * kChosen;
  const Memory weights(2 * kTurns), x(static_cast<uint64_t>(most * k) * 2),
      scales(static_cast<uint64_t>(most) * 4), y(static_cast<uint64_t>(2 * most_pairs * n) * 4),
      router(static_cast<uint64_t>(most * kExperts) * 4),
      choice(static_cast<uint64_t>(4 * most_pairs + kExperts + 1) * 4),
      tables(2 * kExperts * sizeof(TileWeight));
  double bytes = 0;
  std::vector<TileWeight> all;
  for (int i = 0; i < 2 * kExperts; ++i)
    all.push_back(weight_in(weights, NumberFormat::kInt4, n, k, 128, i, &bytes));
  must(ops.upload(tables.data, all.data(), all.size() * sizeof(TileWeight), stream));
  must(ops.wait(stream));
  const TileWeight* const to[2] = {tables.as<TileWeight>(), tables.as<TileWeight>() + kExperts};
  const TileWeight& kind = all.front();
  Chip chip;
  must(ops.chip(&chip));
  for (const int64_t m : {1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096}) {
    if (m > most) break;
    const int64_t pairs = m * kChosen;
    auto* const expert = choice.as<int32_t>();
    int32_t *const place = expert + 2 * pairs, *const row = place + pairs,
                   *const first = row + pairs;
    const HalfInputs inputs{x.as<uint16_t>(), k, scales.as<float>(), m};
    float* const made[2] = {y.as<float>(), y.as<float>() + pairs * n};
    const std::string of = " int4-g128 128 of 2048x768 m=" + std::to_string(m);
    const double read = 2 * bytes * static_cast<double>(std::min<int64_t>(pairs, kExperts)),
                 operations = 4.0 * static_cast<double>(pairs) * static_cast<double>(n * k);
    report("route and sort" + of, measure([&](int) {
             must(ops.route({router.as<float>(), m, kExperts, kChosen, true, false, nullptr, 0, 0,
                             1, expert, reinterpret_cast<float*>(expert + pairs)},
                            stream));
             must(ops.sort_pairs({expert, pairs, kExperts, kChosen, place, row, first}, stream));
           }),
           static_cast<double>(m * kExperts) * 4, 0, 0);
    const ExpertWeights of_experts{{to[0], to[1]}, {}, {made[0], made[1]}, 2, kind};
    if (m <= 64) {
      report("experts pair by pair" + of, measure([&](int) {
               must(ops.moe_gemv({of_experts, expert, pairs, kChosen, inputs}, stream));
             }),
             read, operations, 0);
    }
    const GemmPlan plan = plan_experts(kind, (pairs + kExperts - 1) / kExperts, chip);
    report("experts sorted" + of, measure([&](int) {
             must(ops.moe_gemm({of_experts, first, kExperts, m, row, inputs, plan}, stream));
           }),
           read, operations, 0);
  }
}

void elementwise() {
  const int64_t n = 4096;
  const Memory x(512 * n * 4), y(512 * n * 4), halves(512 * n * 2), scales(512 * 4);
  for (const int64_t m : {1, 64, 512}) {
    const HalfInputs to{halves.as<uint16_t>(), n, scales.as<float>(), m};
    const double bytes = static_cast<double>(m * n);
    const std::string of = " n=4096 m=" + std::to_string(m);
    report("norm_to_half" + of, measure([&](int) {
             must(ops.norm_to_half({x.as<float>(), y.as<float>(), n, 1e-5f, to}, stream));
           }),
           6 * bytes, 0, 0);
    report("activate_to_half" + of, measure([&](int) {
             must(ops.activate_to_half({Activate::kSilu, x.as<float>(), y.as<float>(), n, to},
                                       stream));
           }),
           14 * bytes, 0, 0);
  }
}

void repack() {
  const int64_t n = 28672, k = 8192;
  const Memory from(static_cast<uint64_t>(n * k) / 2), to(static_cast<uint64_t>(n * k) / 2);
  const RepackCodes a{{from.data, false, 4, 0}, 4, n, k, n / 16, k / kStageColumns, to.data};
  report("repack int4 8192x28672", measure([&](int) { must(ops.repack_codes(a, stream)); }),
         static_cast<double>(n * k), 0, 0);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  if (quick) rounds = 10;
  uint64_t free = 0, total = 0;
  if (const Status why = ops.memory(&free, &total)) {
    std::fprintf(stderr, "Skipped: no GPU (%s)\n", why);
    return 77;
  }
  must(ops.make_stream(&stream));
  cudaDeviceProp device;
  must(cudaGetDeviceProperties(&device, 0));
  std::printf("{\"device\": \"%s\", \"multiprocessors\": %d, \"memory_bytes\": %llu}\n",
              device.name, device.multiProcessorCount, static_cast<unsigned long long>(total));
  {
    const Memory from(uint64_t{1} << 30), to(uint64_t{1} << 30);
    const Times t = measure([&](int) {
      must(cudaMemcpyAsync(to.data, from.data, uint64_t{1} << 30, cudaMemcpyDeviceToDevice,
                           static_cast<cudaStream_t>(stream)));
    });
    copy_bytes_per_us = static_cast<double>(uint64_t{2} << 30) / t.median;
    report("copy", t, static_cast<double>(uint64_t{2} << 30), 0, 0);
  }
  if (argc > 1 && std::strcmp(argv[1], "--plans") == 0) {
    rounds = 5;
    plans();
    return 0;
  }
  elementwise();
  repack();
  attention({"32/8 heads of 128", 32, 8, 128, false}, quick);
  attention({"16 latent heads", 16, 1, 576, true}, quick);
  attention({"128 latent heads", 128, 1, 576, true}, quick);
  experts(quick);
  products(quick);
  ops.end_stream(stream);
}
