#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/buffer.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "quant/quantize_pass.h"
#include "runtime/cpu/matmul.h"
#include "runtime/forward.h"
#include "runtime/model/synthetic.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : Common, ModelOptions, ExecutorOptions {
  std::string cache, synthetic, type = "w4", table_type = "w8";
  int64_t prompt = 512, generate = 64, repeats = 3, depth = 0, batch = 1;
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

// Operations per second of a kernel that does nothing else, on all threads.
double peak(double (*run)(int64_t)) {
  constexpr int64_t kRounds = 1 << 18;
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<double> done(static_cast<size_t>(8 * thread_count()));
    const auto begin = Clock::now();
    parallel_for(static_cast<int64_t>(done.size()),
                 [&](int64_t i) { done[static_cast<size_t>(i)] = run(kRounds); });
    best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / seconds(begin));
  }
  return best;
}

// The share of an expert's weights that one token makes use of, on average; 1 of all others.
double used_by_token(const proto::ModelSpec& spec, const LinearInfo& info) {
  if (info.expert < 0) return 1;
  const auto& m = spec.layers(info.layer).sublayers(info.sublayer).mixture();
  return static_cast<double>(m.chosen()) / m.experts();
}

// Multiply-adds of a token's linears, two operations each.
double operations(const Model& model) {
  double total = 0;
  for (const auto& l : linears_of(model.spec)) {
    if (l.layer >= 0) total += 2.0 * static_cast<double>(l.n * l.k) * used_by_token(model.spec, l);
  }
  return total;
}

// Of the weights that one token is multiplied with.
uint64_t weight_bytes(const Model& model) {
  double bytes = static_cast<double>(model.head().bytes());
  for (const Block& b : model.blocks) {
    for (const auto& l : linears_of(model.spec, b.layer))
      bytes += static_cast<double>(find_linear(b, l).bytes()) * used_by_token(model.spec, l);
  }
  return static_cast<uint64_t>(bytes);
}

std::unique_ptr<ModelSource> source_of(const Options& o) {
  if (o.synthetic.empty()) return open_model(o.model, o.tokenizer, !o.no_verify);
  return make_synthetic(o.synthetic, {encoding_for_type(o.type), encoding_for_type(o.table_type),
                                      input_for_type(o.type)});
}

// A model and the cache of `batch` sequences that stand at `depth`.
class Runner {
 public:
  Runner(const ModelSource& source, const Options& o)
      : model_(load_model(source)),
        executor_(make_executor(o.executor())),
        types_(o.cache.empty() ? KvTypes(KvType::kF16) : parse_kv_types(o.cache, KvType::kF16)) {
    const ModelUse use{.slots = static_cast<int>(o.batch),
                       .length = o.depth + o.prompt + o.generate,
                       .types = types_};
    const MemoryPlan plan = executor_->prepare(model_, use);
    print_memory(plan, o.quiet);
    chunk_ = plan.tokens;
    tokens_.resize(static_cast<size_t>(std::max(chunk_, o.batch)));
    cache_ = executor_->make_cache(model_.spec, use.slots, use.length, types_);
    if (o.depth > 0 || o.batch > 1) cache_->fill();
    Rng rng(1);
    for (auto& t : tokens_) t = static_cast<int32_t>(rng.next() % model_.spec.vocab());
  }

  const Model& model() const { return model_; }
  const Executor& executor() const { return *executor_; }
  KvTypes types() const { return types_; }
  uint64_t cache_bytes() const { return cache_->bytes(); }

  // Tokens of the first sequence at positions [begin, begin + count), and the logits of the last.
  void prefill(int64_t begin, int64_t count) {
    for (int64_t done = 0; done < count; done += chunk_) {
      const int64_t n = std::min(chunk_, count - done);
      run({{0, begin + done, n}}, done + n == count);
    }
  }
  // One token of every sequence.
  void decode(int64_t position) {
    std::vector<Segment> segments;
    for (int i = 0; i < cache_->slots(); ++i) segments.push_back({i, position, 1});
    run(segments, true);
  }

 private:
  void run(const std::vector<Segment>& segments, bool logits) {
    check_interrupt();
    std::vector<int64_t> ends;
    int64_t count = 0;
    for (const auto& s : segments) ends.push_back((count += s.count) - 1);
    const Batch batch{std::span(tokens_).first(static_cast<size_t>(count)), segments};
    if (logits)
      forward_logits(*executor_, model_, batch, *cache_, ends);
    else
      forward_hidden(*executor_, model_, batch, *cache_);
    executor_->wait();
  }

  const Model model_;
  const std::unique_ptr<Executor> executor_;
  int64_t chunk_ = 0;  // tokens of a prompt at a time
  const KvTypes types_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> tokens_;
};

void bench(const Options& o) {
  o.apply();
  if (o.model.empty() == o.synthetic.empty())
    fail(ErrorKind::kUsage, "bench takes a model or --synthetic SHAPE");
  const auto begin_load = Clock::now();
  const auto source = source_of(o);
  Runner runner(*source, o);
  const double load_seconds = seconds(begin_load);
  const Model& model = runner.model();
  const auto cache_bytes =
      runner.cache_bytes() / static_cast<uint64_t>(o.batch * (o.depth + o.prompt + o.generate));
  // What a token reads: every block and the head; of the embedding one row.
  const uint64_t bytes = weight_bytes(model);

  // The processor's ceilings say nothing of a GPU; gpu_bench measures those of one.
  const bool ceilings = !o.executor().cuda;
  std::vector<double> prefill, decode, bandwidth, int_ops, float_ops;
  for (int64_t r = 0; r < o.repeats;
       ++r) {  // interleaved: what the machine does beside hits all alike
    if (ceilings) {
      bandwidth.push_back(read_bandwidth());
      int_ops.push_back(peak(cpu_kernels().int_peak));
      float_ops.push_back(peak(cpu_kernels().float_peak));
    }
    auto begin = Clock::now();
    runner.prefill(o.depth, o.prompt);
    prefill.push_back(static_cast<double>(o.prompt) / seconds(begin));
    begin = Clock::now();
    for (int64_t i = 0; i < o.generate; ++i) runner.decode(o.depth + o.prompt + i);
    decode.push_back(static_cast<double>(o.batch * o.generate) / seconds(begin));
  }
  const Figures p = figures(prefill), d = figures(decode);
  const auto ceiling = [&](const std::vector<double>& all) {
    return ceilings ? figures(all) : Figures{};
  };
  const Figures b = ceiling(bandwidth), i8 = ceiling(int_ops), f32 = ceiling(float_ops);
  const double read = static_cast<double>(bytes) * d.median / static_cast<double>(o.batch);
  const double ops = operations(model) * p.median;
  Json j = {{"model", o.model.empty() ? o.synthetic + " " + o.type : o.model},
            {"executor", runner.executor().description()},
            {"threads", thread_count()},
            {"load_seconds", load_seconds},
            {"depth", o.depth},
            {"batch", o.batch},
            {"prompt_tokens", o.prompt},
            {"generated_tokens", o.generate},
            {"repeats", o.repeats},
            {"prefill_tokens_per_s", p.median},
            {"prefill_tokens_per_s_range", {p.low, p.high}},
            {"decode_tokens_per_s", d.median},
            {"decode_tokens_per_s_range", {d.low, d.high}},
            {"weight_bytes_per_token", bytes},
            {"cache", to_string(runner.types())},
            {"cache_bytes_per_token", cache_bytes},
            {"prefill_ops_per_s", ops},
            {"decode_bytes_per_s", read}};
  if (ceilings) {
    j.update({{"int8_peak_ops_per_s", i8.high},
              {"f32_peak_ops_per_s", f32.high},
              {"read_bytes_per_s", b.median},
              {"decode_bandwidth_fraction", read / b.median}});
  }
  o.write_json(j);
  if (!o.prints()) return;
  say("{}\n", runner.executor().description());
  say("prefill  {:8.1f} tokens/s  ({:.1f} to {:.1f}), {} tokens\n", p.median, p.low, p.high,
      o.prompt);
  say("         {:.0f} GOP/s in linear layers", ops / 1e9);
  if (ceilings) {
    say("; this machine: {:.0f} in int8 ({:.0f} %), {:.0f} in f32 ({:.0f} %)", i8.high / 1e9,
        100 * ops / i8.high, f32.high / 1e9, 100 * ops / f32.high);
  }
  say("\n");
  say("decode   {:8.1f} tokens/s  ({:.1f} to {:.1f}), {} tokens of {} sequence{} after them\n",
      d.median, d.low, d.high, o.generate, o.batch, o.batch == 1 ? "" : "s");
  say("         {} of weights a token, {:.1f} GB/s", human_bytes(bytes), read / 1e9);
  if (ceilings) {
    say(" of the {:.1f} GB/s that this machine reads: {:.0f} %", b.median / 1e9,
        100 * read / b.median);
  }
  say("\n");
  say("cache    {} a token, in {}\n", human_bytes(cache_bytes), to_string(runner.types()));
  say("load     {:8.2f} s\n", load_seconds);
  for (const auto& name : fallback_notes())
    warn(fmt::format("no kernel for {}: decoded and multiplied as f32", name));
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* c = app.add_subcommand("bench",
                               "tokens per second, and how much of the memory's bandwidth that is");
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL", "an HF folder, a GGUF file, a llama2.c file or a .pith file")
      ->required(false);
  o->ExecutorOptions::add_to(*c);
  c->add_option("--synthetic", o->synthetic,
                fmt::format("a model of this shape with random weights: {}",
                            fmt::join(synthetic_shapes(), " ")))
      ->type_name("SHAPE");
  c->add_option("--type", o->type, "of its weights, as `pith quantize` names them (default: w4)");
  c->add_option("--table-type", o->table_type, "of its embedding and head (default: w8)");
  c->add_option("-d,--depth", o->depth, "tokens that are in the cache before (default: 0)")
      ->check(CLI::Range(0, 1 << 20));
  c->add_option("-p,--n-prompt", o->prompt, "tokens of prefill (default: 512)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("-n,--n-gen", o->generate, "tokens of decode (default: 64)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("-b,--batch", o->batch, "sequences that are decoded side by side (default: 1)")
      ->check(CLI::Range(1, 1024));
  c->add_option("--repetitions", o->repeats, "of both, median shown (default: 3)")
      ->check(CLI::Range(1, 1000));
  c->add_option("--kv", o->cache, kCacheHelp)->type_name("TYPE");
  o->Common::add_to(*c);
  c->callback([o] { bench(*o); });
}

}  // namespace pith::tools
