#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <numeric>
#include <optional>

#include "core/buffer.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/nearest.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "quant/quantize_pass.h"
#include "runtime/backends.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/forward/forward.h"
#include "runtime/model/synthetic.h"
#include "tools/arguments.h"
#include "tools/command.h"
#include "tools/interrupt.h"
#include "tools/processor.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : Common, ModelOptions, ExecutorOptions {
  std::string cache, synthetic, type = "w4", table_type = "w8", prompts = "512";
  std::vector<int64_t> prompt;  // lengths, as `prompts` names them
  bool prompts_given = false, types_given = false;
  int64_t generate = 64, repeats = 3, depth = 0, batch = 1;

  KvTypes cache_types() const {
    return cache.empty() ? NumberFormat::kF16 : parse_kv_types(cache, NumberFormat::kF16);
  }
  int64_t longest() const { return depth + std::ranges::max(prompt) + generate; }
};

// "128,512".
std::vector<int64_t> lengths_of(const std::string& text) {
  std::vector<int64_t> lengths;
  const char *at = text.data(), *const end = at + text.size();
  for (;;) {
    int64_t n = 0;
    const auto [stop, error] = std::from_chars(at, end, n);
    if (error != std::errc() || n < 1 || n > 1 << 20 || (stop != end && *stop != ',')) {
      fail(ErrorKind::kUsage, "--n-prompt {}: must be numbers of 1 to {}, as in 128,512",
           one_line(text), 1 << 20);
    }
    lengths.push_back(n);
    if (stop == end) return lengths;
    at = stop + 1;
  }
}

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

// Multiply-adds of a token's linears, two operations each.
double operations(const Model& model) {
  double total = 0;
  for (const auto& l : linears_of(model.spec)) {
    if (l.layer >= 0)
      total += 2.0 * static_cast<double>(l.n * l.k) * share_of_tokens(model.spec, l);
  }
  return total;
}

// Bytes of the weights that one token is multiplied with.
uint64_t weight_bytes(const Model& model) {
  double bytes = static_cast<double>(model.head().bytes());
  for (const Block& b : model.blocks) {
    for (const auto& l : linears_of(model.spec, b.layer))
      bytes += static_cast<double>(find_linear(b, l).bytes()) * share_of_tokens(model.spec, l);
  }
  return static_cast<uint64_t>(bytes);
}

std::unique_ptr<ModelSource> source_of(const Options& o) {
  if (o.synthetic.empty()) return open_model_for(o);
  const auto shapes = synthetic_shapes();
  if (const std::string meant = nearest(o.synthetic, {shapes.begin(), shapes.end()});
      !meant.empty() && meant != o.synthetic) {
    fail(ErrorKind::kUsage, "--synthetic {}: no such shape; did you mean {}? Shapes: {}",
         one_line(o.synthetic), meant, fmt::join(shapes, " "));
  }
  return make_synthetic(o.synthetic, {encoding_for_type(o.type), encoding_for_type(o.table_type),
                                      input_for_type(o.type)});
}

// A model and the cache of `batch` sequences that stand at `depth`.
class Runner {
 public:
  Runner(const ModelSource& source, const Options& o)
      : model_(load_model(source)),
        executor_(make_executor(o.executor())),
        types_(o.cache_types()) {
    const KvConfig cache{static_cast<int>(o.batch), o.longest(), types_};
    const MemoryPlan plan = executor_->prepare(model_, {.cache = cache});
    print_memory(plan, o.quiet);
    chunk_ = plan.tokens;
    tokens_.resize(static_cast<size_t>(std::max(chunk_, o.batch)));
    cache_ = executor_->make_cache(model_.spec, cache);
    if (o.depth > 0 || o.batch > 1) cache_->fill();
    Rng rng(1);
    for (auto& t : tokens_) t = static_cast<int32_t>(rng.next() % model_.spec.vocab());
  }

  const Model& model() const { return model_; }
  const Executor& executor() const { return *executor_; }
  KvTypes types() const { return types_; }
  uint64_t cache_bytes_per_token() const {
    const KvPages& pages = cache_->pages();
    return cache_->bytes() / static_cast<uint64_t>(pages.count() * pages.page_tokens());
  }

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
    interrupt().check();
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

// The measurements for one length of prompt.
struct Measured {
  int64_t prompt = 0;
  std::vector<double> prefill, decode;  // tokens per second
};

// The ceilings of the processor; gpu_bench measures those of a GPU.
struct Ceilings {
  std::vector<double> bandwidth, int_ops, float_ops;
  void measure() {
    bandwidth.push_back(read_bandwidth());
    int_ops.push_back(peak_operations(cpu_kernels().int8_peak));
    float_ops.push_back(peak_operations(cpu_kernels().f32_peak));
  }
};

void check_context(const ModelSource& source, const Options& o) {
  const auto own = static_cast<int64_t>(source.spec().context());
  if (own > 0 && o.longest() > own) {
    fail(ErrorKind::kUsage,
         "--depth {}, --n-prompt {} and --n-gen {} together need a context of {}, the model has {}",
         o.depth, std::ranges::max(o.prompt), o.generate, o.longest(), own);
  }
}

// 512 tokens, or what a smaller context leaves.
int64_t usual_prompt(const ModelSource& source, const Options& o) {
  const auto own = static_cast<int64_t>(source.spec().context());
  return own > 0 ? std::clamp<int64_t>(own - o.depth - o.generate, 1, 512) : 512;
}

// " (81 %)", or `otherwise` above 100 %: weights that stay in a cache of the processor are read
// faster than memory allows.
std::string share(double of, double all, const char* otherwise) {
  return of <= all ? fmt::format(" ({:.0f} %)", 100 * of / all) : fmt::format(" ({})", otherwise);
}

// What the command measured, and what it is held against.
struct Result {
  std::string model, description;
  int64_t depth = 0, batch = 1, generate = 0, repeats = 0;
  double load_seconds = 0;
  uint64_t weight_bytes = 0, cache_bytes_per_token = 0;
  double operations = 0;  // of a token
  KvTypes cache;
  std::vector<Measured> measured;
  std::optional<Figures> bandwidth = {}, int_ops = {}, float_ops = {};

  double ops_per_second(const Measured& m) const { return operations * figures(m.prefill).median; }
  double bytes_per_second(const Measured& m) const {
    return static_cast<double>(weight_bytes) * figures(m.decode).median /
           static_cast<double>(batch);
  }
};

// Fills in `measured` and the ceilings.
void measure(Runner& runner, const Options& o, Result* to) {
  const bool has_ceilings = !o.executor().cuda;
  Ceilings ceilings;
  for (const int64_t n : o.prompt) to->measured.push_back({n, {}, {}});
  const auto lengths = std::ssize(to->measured);
  TerminalProgress progress(o.quiet);
  progress.begin("measuring", o.repeats * lengths);
  for (int64_t r = 0; r < o.repeats; ++r) {
    for (int64_t i = 0; i < lengths; ++i) {
      // Interleaved, so that other load on the machine affects all alike.
      if (has_ceilings) ceilings.measure();
      Measured& m = to->measured[static_cast<size_t>(i)];
      auto begin = Clock::now();
      runner.prefill(o.depth, m.prompt);
      m.prefill.push_back(static_cast<double>(m.prompt) / seconds(begin));
      begin = Clock::now();
      for (int64_t t = 0; t < o.generate; ++t) runner.decode(o.depth + m.prompt + t);
      m.decode.push_back(static_cast<double>(o.batch * o.generate) / seconds(begin));
      progress.advance(r * lengths + i + 1, "");
    }
  }
  progress.end();
  if (!has_ceilings) return;
  to->bandwidth = figures(ceilings.bandwidth);
  to->int_ops = figures(ceilings.int_ops);
  to->float_ops = figures(ceilings.float_ops);
}

Json json_of(const Result& r) {
  Json rows = Json::array();
  for (const Measured& m : r.measured) {
    const Figures p = figures(m.prefill), d = figures(m.decode);
    rows.push_back({{"prompt_tokens", m.prompt},
                    {"prefill_tokens_per_s", p.median},
                    {"prefill_tokens_per_s_range", {p.low, p.high}},
                    {"decode_tokens_per_s", d.median},
                    {"decode_tokens_per_s_range", {d.low, d.high}},
                    {"prefill_ops_per_s", r.ops_per_second(m)},
                    {"decode_bytes_per_s", r.bytes_per_second(m)}});
    if (r.bandwidth)
      rows.back()["decode_bandwidth_fraction"] = r.bytes_per_second(m) / r.bandwidth->median;
  }
  Json j = {{"model", r.model},
            {"executor", r.description},
            {"threads", thread_count()},
            {"load_seconds", r.load_seconds},
            {"depth", r.depth},
            {"batch", r.batch},
            {"generated_tokens", r.generate},
            {"repeats", r.repeats},
            {"weight_bytes_per_token", r.weight_bytes},
            {"cache", to_string(r.cache)},
            {"cache_bytes_per_token", r.cache_bytes_per_token}};
  if (r.bandwidth) {
    j.update({{"int8_peak_ops_per_s", r.int_ops->high},
              {"f32_peak_ops_per_s", r.float_ops->high},
              {"read_bytes_per_s", r.bandwidth->median}});
  }
  j.update(rows.front());  // of one length, as ever
  if (rows.size() > 1) j["rows"] = rows;
  return j;
}

void print(const Result& r) {
  say("{}\n", r.description);
  for (const Measured& m : r.measured) {
    const Figures p = figures(m.prefill), d = figures(m.decode);
    const double ops = r.ops_per_second(m), read = r.bytes_per_second(m);
    say("prefill  {:8.1f} tokens/s  ({:.1f} to {:.1f}), {}\n", p.median, p.low, p.high,
        counted(m.prompt, "token"));
    say("         {:.0f} GOP/s in linear layers", ops / 1e9);
    if (r.bandwidth) {
      say("; this machine: {:.0f} in int8{}, {:.0f} in f32{}", r.int_ops->high / 1e9,
          share(ops, r.int_ops->high, "exceeded"), r.float_ops->high / 1e9,
          share(ops, r.float_ops->high, "exceeded"));
    }
    say("\n");
    say("decode   {:8.1f} tokens/s  ({:.1f} to {:.1f}), {} of {} after them\n", d.median, d.low,
        d.high, counted(r.generate, "token"), counted(r.batch, "sequence"));
    say("         {} of weights a token, {:.1f} GB/s", human_bytes(r.weight_bytes), read / 1e9);
    if (r.bandwidth) {
      say(" of the {:.1f} GB/s that this machine reads{}", r.bandwidth->median / 1e9,
          share(read, r.bandwidth->median, "exceeded: the weights stay in the processor's cache"));
    }
    say("\n");
  }
  say("cache    {} a token, in {}\n", human_bytes(r.cache_bytes_per_token), to_string(r.cache));
  say("load     {:8.2f} s\n", r.load_seconds);
}

void check_options(const Options& o) {
  if (o.model.empty() && o.synthetic.empty())
    fail(ErrorKind::kUsage, "bench takes a model, or --synthetic SHAPE in place of one");
  if (!o.model.empty() && !o.synthetic.empty()) {
    fail(ErrorKind::kUsage, "{} and --synthetic {} are both given: choose one model",
         one_line(o.model), one_line(o.synthetic));
  }
  if (o.types_given && o.synthetic.empty())
    fail(ErrorKind::kUsage, "--type and --table-type go with --synthetic: a model has its own");
}

// Refuses what the processor's memory cannot hold.
void check_memory(const ModelSource& source, const Options& o) {
  if (o.executor().cuda) return;
  if (!o.synthetic.empty()) {
    require_memory(model_bytes(source), fmt::format("{} of {}", o.synthetic, o.type),
                   "choose a narrower --type or a smaller shape");
  }
  require_cache_memory(source.spec(), {static_cast<int>(o.batch), o.longest(), o.cache_types()},
                       model_bytes(source), "--depth, --n-prompt, --n-gen and --batch");
}

void bench(Options& o) {
  o.apply();
  o.prompt = lengths_of(o.prompts);
  check_options(o);
  const auto begin_load = Clock::now();
  const auto source = source_of(o);
  if (!o.prompts_given) o.prompt = {usual_prompt(*source, o)};
  check_context(*source, o);
  check_memory(*source, o);
  Runner runner(*source, o);
  const Model& model = runner.model();
  Result r{.model = o.model.empty() ? o.synthetic + " " + o.type : o.model,
           .description = runner.executor().description(),
           .depth = o.depth,
           .batch = o.batch,
           .generate = o.generate,
           .repeats = o.repeats,
           .load_seconds = seconds(begin_load),
           // What a token reads: every block and the head; of the embedding one row.
           .weight_bytes = weight_bytes(model),
           .cache_bytes_per_token = runner.cache_bytes_per_token(),
           .operations = operations(model),
           .cache = runner.types(),
           .measured = {}};
  measure(runner, o, &r);
  o.write_json(json_of(r));
  warn_of_fallbacks(runner.executor());
  if (o.prints()) print(r);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* c = app.add_subcommand("bench",
                               "measure tokens per second, beside what memory and processor allow");
  auto o = std::make_shared<Options>();
  constexpr const char* kMeasured = "What is measured";
  constexpr const char* kSynthetic = "Without a model";
  o->ModelOptions::add_to(*c, "MODEL", kModelHelp)->required(false);
  c->add_option("-p,--n-prompt", o->prompts, "tokens of prefill; several as in 128,512")
      ->type_name("N")
      ->group(kMeasured);
  c->add_option("-n,--n-gen", o->generate, "tokens of decode")
      ->check(in_range(1, 1 << 20))
      ->group(kMeasured);
  c->add_option("-d,--depth", o->depth, "tokens that are in the KV cache before")
      ->check(in_range(0, 1 << 20))
      ->group(kMeasured);
  c->add_option("-b,--batch", o->batch, "sequences that are decoded side by side")
      ->check(in_range(1, 1024))
      ->group(kMeasured);
  c->add_option("--repetitions", o->repeats, "times that all is measured; the median is shown")
      ->check(in_range(1, 1000))
      ->group(kMeasured);
  c->add_option("--kv,--cache-type", o->cache, kCacheHelp)->type_name("TYPE")->group(kMeasured);
  c->add_option("--synthetic", o->synthetic,
                fmt::format("a model of this shape with random weights: {}",
                            fmt::join(synthetic_shapes(), " ")))
      ->type_name("SHAPE")
      ->group(kSynthetic);
  c->add_option("--type", o->type, "type of its weights, as pith quantize names them")
      ->group(kSynthetic);
  c->add_option("--table-type", o->table_type, "type of its embedding and head")->group(kSynthetic);
  o->ExecutorOptions::add_to(*c);
  o->Common::add_to(*c);
  c->callback([o, c] {
    o->prompts_given = c->count("--n-prompt") > 0;
    o->types_given = c->count("--type") + c->count("--table-type") > 0;
    bench(*o);
  });
}

}  // namespace pith::tools
