#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "runtime/cpu/matmul.h"
#include "runtime/engine.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : Common, ModelOptions {
  std::string cache;
  int64_t prompt = 512, generate = 64, repeats = 3;
};

double seconds(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

struct Figures {
  double low, median, high;
};
Figures figures(std::vector<double> v) {
  std::ranges::sort(v);
  return {v.front(), v[v.size() / 2], v.back()};
}

// Bytes per second that all threads together read from memory.
double read_bandwidth() {
  constexpr int64_t kBytes = int64_t{256} << 20, kTile = 1 << 20;
  static Buffer<uint64_t> data(kBytes / 8);
  double best = 0;
  std::vector<uint64_t> sums(kBytes / kTile);
  for (int repeat = 0; repeat < 4; ++repeat) {
    const auto begin = Clock::now();
    parallel_for(kBytes / kTile, [&](int64_t t) {
      uint64_t sum[8] = {};
      const uint64_t* p = data.data() + t * (kTile / 8);
      for (int64_t i = 0; i < kTile / 8; i += 8) {
        for (int l = 0; l < 8; ++l) sum[l] += p[i + l];
      }
      sums[static_cast<size_t>(t)] = std::accumulate(sum, sum + 8, uint64_t{0});
    });
    best = std::max(best, static_cast<double>(kBytes) / seconds(begin));
  }
  if (std::accumulate(sums.begin(), sums.end(), uint64_t{0}) != 0)
    fail(ErrorKind::kMemory, "fresh memory is not zero");
  return best;
}

void bench(const Options& o) {
  o.apply();
  const auto begin_load = Clock::now();
  const auto source = open_model(o.model, o.tokenizer, !o.no_verify);
  EngineOptions options;
  options.context = o.prompt + o.generate + 1;
  if (!o.cache.empty()) options.cache = parse_kv_types(o.cache, options.cache);
  Engine engine(*source, options);
  const double load_seconds = seconds(begin_load);
  const auto& spec = engine.model().spec;
  const uint64_t cache_bytes = engine.cache().bytes() / static_cast<uint64_t>(options.context);
  // What a token reads: every block and the head; of the embedding one row.
  uint64_t bytes = engine.model().bytes();
  if (!spec.tied_head()) bytes -= engine.model().embedding.bytes();

  std::vector<int32_t> tokens(static_cast<size_t>(o.prompt));
  Rng rng(1);
  for (auto& t : tokens) t = static_cast<int32_t>(rng.next() % spec.vocab());
  std::vector<double> prefill, decode, bandwidth;
  for (int64_t r = 0; r < o.repeats;
       ++r) {  // interleaved: what the machine does beside hits all alike
    bandwidth.push_back(read_bandwidth());
    engine.rewind(0);
    auto begin = Clock::now();
    engine.extend(tokens);
    prefill.push_back(static_cast<double>(o.prompt) / seconds(begin));
    begin = Clock::now();
    for (int64_t i = 0; i < o.generate; ++i) engine.extend(std::span(tokens).first(1));
    decode.push_back(static_cast<double>(o.generate) / seconds(begin));
  }
  const Figures p = figures(prefill), d = figures(decode), b = figures(bandwidth);
  const double read = static_cast<double>(bytes) * d.median;
  const Json j = {{"model", o.model},
                  {"executor", engine.executor().description()},
                  {"threads", thread_count()},
                  {"load_seconds", load_seconds},
                  {"prompt_tokens", o.prompt},
                  {"generated_tokens", o.generate},
                  {"repeats", o.repeats},
                  {"prefill_tokens_per_s", p.median},
                  {"prefill_tokens_per_s_range", {p.low, p.high}},
                  {"decode_tokens_per_s", d.median},
                  {"decode_tokens_per_s_range", {d.low, d.high}},
                  {"weight_bytes_per_token", bytes},
                  {"cache", to_string(options.cache)},
                  {"cache_bytes_per_token", cache_bytes},
                  {"read_bytes_per_s", b.median},
                  {"decode_bytes_per_s", read},
                  {"decode_bandwidth_fraction", read / b.median}};
  o.write_json(j);
  if (!o.prints()) return;
  fmt::print("{}\n", engine.executor().description());
  fmt::print("prefill  {:8.1f} tokens/s  ({:.1f} to {:.1f}), {} tokens\n", p.median, p.low, p.high,
             o.prompt);
  fmt::print("decode   {:8.1f} tokens/s  ({:.1f} to {:.1f}), {} tokens after them\n", d.median,
             d.low, d.high, o.generate);
  fmt::print(
      "         {} of weights a token, {:.1f} GB/s of the {:.1f} GB/s that this machine reads: "
      "{:.0f} %\n",
      human_bytes(bytes), read / 1e9, b.median / 1e9, 100 * read / b.median);
  fmt::print("cache    {} a token, in {}\n", human_bytes(cache_bytes), to_string(options.cache));
  fmt::print("load     {:8.2f} s\n", load_seconds);
  for (const auto& name : fallback_notes())
    warn(fmt::format("no kernel for {}: decoded and multiplied as f32", name));
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* c = app.add_subcommand("bench",
                               "tokens per second, and how much of the memory's bandwidth that is");
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL",
                          "an HF folder, a GGUF file, a llama2.c file or a .pith file");
  c->add_option("-p,--n-prompt", o->prompt, "tokens of prefill (default: 512)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("-n,--n-gen", o->generate, "tokens of decode (default: 64)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("--repetitions", o->repeats, "of both, median shown (default: 3)")
      ->check(CLI::Range(1, 1000));
  c->add_option("--kv", o->cache, kCacheHelp)->type_name("TYPE");
  o->Common::add_to(*c);
  c->callback([o] { bench(*o); });
}

}  // namespace pith::tools
