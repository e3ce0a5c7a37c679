// y[m,n] = x[m,k] w[n,k]^T: matmul() in f32 against sgemm of OpenBLAS and of oneDNN, and in int8
// against oneDNN's product of u8 and s8, in turns, so that what else the machine does meets all of
// them alike. Prints medians.
//
//   cmake --build build/release --target gemm_peers && build/release/bin/gemm_peers [rounds]
#include <cblas.h>
#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <dnnl.hpp>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/buffer.h"
#include "core/dtype.h"
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

// Runs all in turns; check(name) after each run.
void run_in_turns(std::span<Contestant> contestants, int rounds,
                  const std::function<void(const std::string&)>& check) {
  for (int round = -1; round < rounds; ++round) {  // the first one warms up
    for (auto& c : contestants) {
      // Threads of OpenMP go on spinning for a while, at the cost of who comes next; and threads
      // that slept are slow at first.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      c.run();
      const auto start = std::chrono::steady_clock::now();
      c.run();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round >= 0) {
        c.seconds.push_back(took.count());
      } else {
        check(c.name);
      }
    }
  }
}

void print(const Size& size, std::span<const Contestant> contestants) {
  std::printf("m=%ld n=%ld k=%ld\n", size.m, size.n, size.k);
  for (const auto& c : contestants) {
    const auto [fastest, slowest] = std::ranges::minmax(c.seconds);
    const double operations = 2e-9 * static_cast<double>(size.m * size.n * size.k);
    std::printf("  %-27s %8.1f GOP/s median, %8.1f to %.1f\n", c.name.c_str(),
                operations / median(c.seconds), operations / slowest, operations / fastest);
  }
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
  run_in_turns(contestants, rounds, [&](const std::string& name) {
    if (name == "pith int4-g64") return;
    float off = 0;
    for (int64_t i = 0; i < m * n; ++i) off = std::max(off, std::fabs(y[i] - expected[i]));
    if (off > 1e-3f * std::sqrt(static_cast<float>(k)))
      std::printf("%s differs by %g\n", name.c_str(), static_cast<double>(off));
  });
  print(size, contestants);
}

// Inputs are rounded before the time is taken. oneDNN has its weights in the layout it likes best,
// and leaves its sums in int32, without scales.
void compare_int8(const Size& size, int rounds) {
  const auto [m, n, k] = size;
  const Buffer<float> x = random_matrix(m * k, 1), dense = random_matrix(n * k, 2);
  const pith::Weight w = pith::encode(pith::parse_encoding("int8-row"), n, k, dense.data());
  const pith::Weight w4 = pith::encode(pith::parse_encoding("int4-g128"), n, k, dense.data());
  const pith::Weight w4a8 = pith::encode(pith::parse_encoding("int4-g128-s8"), n, k, dense.data());
  Buffer<float> y(m * n), decoded(n * k);
  pith::reference_decode(w, 0, n, decoded.data());
  pith::RoundedInputs tokens, blocks;
  tokens.set({pith::DType::kI8, pith::InputScale::kToken}, x.data(), m, k);
  blocks.set_blocks(32, x.data(), m, k);
  Buffer<uint8_t> src(m * k);
  for (int64_t t = 0; t < m; ++t)
    std::copy_n(tokens.unsigned_codes() + t * tokens.stride(), k, src.data() + t * k);
  blocks.unsigned_codes();
  Buffer<int8_t> weights(n * k);
  Buffer<int32_t> sums(m * n);
  std::vector<float> scales(static_cast<size_t>(n));
  pith::to_f32(w.encoding.scale, w.plane(pith::PlaneKind::kScales).data(), scales.data(),
               scales.size());
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t i = 0; i < k; ++i) {
      weights[r * k + i] =
          static_cast<int8_t>(std::lround(decoded[r * k + i] / scales[static_cast<size_t>(r)]));
    }
  }

  using dnnl::memory;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc src_desc({m, k}, memory::data_type::u8, memory::format_tag::ab),
      plain_desc({k, n}, memory::data_type::s8, memory::format_tag::ba),
      any_desc({k, n}, memory::data_type::s8, memory::format_tag::any),
      dst_desc({m, n}, memory::data_type::s32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc desc({src_desc, any_desc, dst_desc}, engine);
  memory src_memory(src_desc, engine, src.data()), plain(plain_desc, engine, weights.data()),
      packed(desc.weights_desc(), engine), dst(dst_desc, engine, sums.data());
  dnnl::reorder(plain, packed).execute(stream, plain, packed);
  stream.wait();
  const dnnl::matmul product(desc);

  pith::MatmulScratch scratch;
  const auto ours = [&](const pith::Weight& weight, pith::RoundedInputs& inputs) {
    pith::matmul(pith::cpu_kernels(), weight, inputs, y.data(), false, scratch);
  };
  Contestant contestants[] = {
      {"pith int8-row, a token", [&] { ours(w, tokens); }, {}},
      {"oneDNN u8 x s8",
       [&] {
         product.execute(
             stream, {{DNNL_ARG_SRC, src_memory}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, dst}});
         stream.wait();
       },
       {}},
      {"pith int8-row, 32 inputs", [&] { ours(w, blocks); }, {}},
      {"pith int4-g128, a token", [&] { ours(w4, tokens); }, {}},
      {"pith int4-g128, 32 inputs", [&] { ours(w4, blocks); }, {}},
      {"pith int4-g128-s8, a token", [&] { ours(w4a8, tokens); }, {}},
  };
  run_in_turns(contestants, rounds, [&](const std::string& name) {
    if (name != "oneDNN u8 x s8") return;
    ours(w, tokens);
    double off = 0;
    for (int64_t r = 0; r < n; r += 97) {
      int64_t of_weights = 0;
      for (int64_t i = 0; i < k; ++i) of_weights += weights[r * k + i];
      for (int64_t t = 0; t < m; ++t) {
        const double theirs = static_cast<double>(sums[t * n + r] - 128 * of_weights) *
                              static_cast<double>(scales[static_cast<size_t>(r)]) *
                              static_cast<double>(tokens.scales()[t]);
        off = std::max(off, std::fabs(theirs - static_cast<double>(y[t * n + r])));
      }
    }
    if (off > 1e-3) std::printf("oneDNN differs by %g\n", off);
  });
  print(size, contestants);
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
  for (const Size& size : {Size{512, 4096, 4096}, Size{512, 2048, 2048}, Size{64, 4096, 4096}})
    compare_int8(size, rounds);
}
