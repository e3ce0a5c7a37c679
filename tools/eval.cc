#include <fmt/format.h>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "formats/text_input.h"
#include "runtime/cpu/matmul.h"
#include "runtime/eval/bf16_executor.h"
#include "runtime/eval/choice.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions, ExecutorOptions {
  std::string base, text, protocol = "gptq-2048", cache;
  std::vector<std::string> also;
  int64_t max_windows = 0;
  bool no_noise_floor = false;

  KvTypes cache_types() const {
    return cache.empty() ? KvType::kF32 : parse_kv_types(cache, KvType::kF32);
  }
};

struct Loaded {
  std::unique_ptr<ModelSource> source;
  Model model;
};

Loaded load(const Options& o, const std::string& path) {
  Loaded l;
  l.source = open_model(path, o.tokenizer, !o.no_verify);
  l.model = load_model(*l.source);
  return l;
}

struct Text {
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<Window> windows;
  Protocol protocol;
  uint64_t hash;
};

// The tokenizer is the base's where there is one: both models see the same tokens.
Text read_windows(const Options& o, const ModelSource& source) {
  const auto& spec = source.spec();
  Text t{load_tokenizer(source),
         {},
         parse_protocol(o.protocol, static_cast<int64_t>(spec.context())),
         0};
  const std::string text = read_text_input(o.text, 1 << 30);
  t.hash = hash64(std::as_bytes(std::span(text)));
  const auto bos = t.tokenizer->bos();
  t.windows = make_windows(t.protocol, *t.tokenizer, text, bos ? *bos : spec.bos_token());
  if (o.max_windows > 0 && t.windows.size() > static_cast<size_t>(o.max_windows)) {
    t.windows.resize(static_cast<size_t>(o.max_windows));
  }
  return t;
}

void warn_same_text(const ModelSource& source, uint64_t text_hash) {
  const auto* m = source.manifest();
  if (m != nullptr && m->provenance().calibration_hash() == text_hash && text_hash != 0) {
    warn("this is the text that the model was calibrated on: the figures flatter it");
  }
}

void print_fallbacks() {
  for (const auto& name : fallback_notes())
    warn(fmt::format("no kernel for {}: decoded and multiplied as f32", name));
}

void eval_ppl(const Options& o) {
  o.apply();
  const KvTypes cache = o.cache_types();
  const Loaded m = load(o, o.model);
  const Text t = read_windows(o, *m.source);
  warn_same_text(*m.source, t.hash);
  const auto executor = make_executor(o.executor());
  executor->prepare(m.model);
  TerminalProgress progress(o.quiet);
  const auto r = evaluate_perplexity(*executor, m.model, t.windows, progress, cache);
  print_fallbacks();
  o.write_json({{"model", o.model},
                {"protocol", t.protocol.name()},
                {"text_hash", fmt::format("{:016x}", t.hash)},
                {"cache", to_string(cache)},
                {"windows", t.windows.size()},
                {"tokens", r.tokens},
                {"nll", r.nll},
                {"perplexity", r.perplexity},
                {"perplexity_standard_error", r.standard_error}});
  if (!o.prints()) return;
  say("perplexity {:.4f} +- {:.4f}  ({}, {} windows, {} tokens, nll {:.5f})\n", r.perplexity,
      r.standard_error, t.protocol.name(), t.windows.size(), r.tokens, r.nll);
}

Json json_of(const KlResult& r) {
  return {{"kl_mean", r.kl_mean},
          {"kl_standard_error", r.kl_standard_error},
          {"kl_median", r.kl_median},
          {"kl_p99", r.kl_p99},
          {"kl_p999", r.kl_p999},
          {"kl_max", r.kl_max},
          {"same_top", r.same_top},
          {"rms_probability_change", r.rms_probability_change},
          {"perplexity", r.candidate.perplexity},
          {"base_perplexity", r.base.perplexity},
          {"ppl_ratio", r.ppl_ratio},
          {"ppl_ratio_standard_error", r.ppl_ratio_error}};
}

void print(const KlResult& r) {
  say("KL divergence  mean {:.6f} +- {:.6f}  median {:.6f}  99% {:.5f}  99.9% {:.5f}  max {:.4f}\n",
      r.kl_mean, r.kl_standard_error, r.kl_median, r.kl_p99, r.kl_p999, r.kl_max);
  say("same top token {:.3f} %   rms change of probability {:.4f} %\n", 100 * r.same_top,
      100 * r.rms_probability_change);
  say("perplexity     {:.4f}, base {:.4f}, ratio {:.5f} +- {:.5f}\n", r.candidate.perplexity,
      r.base.perplexity, r.ppl_ratio, r.ppl_ratio_error);
}

void eval_kl(const Options& o) {
  o.apply();
  const KvTypes cache = o.cache_types();
  const Loaded base = load(o, o.base);
  std::vector<std::string> paths = {o.model};
  paths.insert(paths.end(), o.also.begin(), o.also.end());
  std::vector<Loaded> loaded;
  for (const auto& path : paths) loaded.push_back(load(o, path));
  const Text t = read_windows(o, *base.source);
  std::vector<KlCandidate> candidates;
  for (const auto& l : loaded) {
    warn_same_text(*l.source, t.hash);
    candidates.push_back({.model = l.model, .cache = cache});
  }
  const auto executor = make_executor(o.executor());
  executor->prepare(base.model);
  for (const auto& l : loaded) executor->prepare(l.model);
  TerminalProgress progress(o.quiet);
  const std::vector<KlResult> results =
      evaluate_kl(*executor, base.model, candidates, t.windows, progress);
  Json j = json_of(results.front());
  j.update({{"base", o.base},
            {"model", o.model},
            {"protocol", t.protocol.name()},
            {"text_hash", fmt::format("{:016x}", t.hash)},
            {"cache", to_string(cache)},
            {"windows", t.windows.size()},
            {"tokens", results.front().tokens}});
  for (size_t i = 1; i < results.size(); ++i) {
    Json other = json_of(results[i]);
    other["model"] = paths[i];
    j["also"].push_back(other);
  }
  if (!o.no_noise_floor) {
    // A few windows are enough to tell the size of what bf16 does.
    std::vector<Window> few;
    int64_t tokens = 0;
    for (const auto& w : t.windows) {
      if (tokens >= 512) break;
      few.push_back(w);
      tokens += w.scored();
    }
    const Model rounded = load_dense_model(*base.source, DType::kBF16);
    Bf16Executor bf16(*executor);
    const KlCandidate floor_of[] = {{.model = rounded, .executor = &bf16}};
    const KlResult floor = evaluate_kl(*executor, base.model, floor_of, few).front();
    j["noise_floor_kl_mean"] = floor.kl_mean;
    j["noise_floor_tokens"] = floor.tokens;
  }
  print_fallbacks();
  o.write_json(j);
  if (!o.prints()) return;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results.size() > 1) say("{}\n", paths[i]);
    print(results[i]);
  }
  if (!o.no_noise_floor) {
    say("noise floor    {:.2e} mean KL of the base in bf16, {} tokens\n",
        j["noise_floor_kl_mean"].get<double>(), j["noise_floor_tokens"].get<int64_t>());
  }
  say("protocol       {}, {} windows, {} tokens\n", t.protocol.name(), t.windows.size(),
      results.front().tokens);
}

void eval_choice(const Options& o) {
  o.apply();
  const Loaded m = load(o, o.model);
  const auto tokenizer = load_tokenizer(*m.source);
  const auto tasks = parse_choice_tasks(read_text_input(o.text, 1 << 30), o.text);
  const auto executor = make_executor(o.executor());
  executor->prepare(m.model);
  TerminalProgress progress(o.quiet);
  const auto r = evaluate_choice(*executor, m.model, *tokenizer, tasks, progress);
  print_fallbacks();
  o.write_json({{"model", o.model},
                {"tasks", r.tasks},
                {"acc", r.accuracy},
                {"acc_norm", r.accuracy_by_length},
                {"acc_standard_error", r.standard_error}});
  if (o.prints()) {
    say("accuracy {:.2f} %, length-normalized {:.2f} %, +- {:.2f} %  ({} tasks)\n",
        100 * r.accuracy, 100 * r.accuracy_by_length, 100 * r.standard_error, r.tasks);
  }
}

std::shared_ptr<Options> add(CLI::App& parent, const char* name, const char* what, bool windows,
                             void (*work)(const Options&)) {
  auto* c = parent.add_subcommand(name, what);
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL",
                          "an HF folder, a GGUF file, a llama2.c file or a .pith file");
  o->ExecutorOptions::add_to(*c);
  c->add_option(
       "-f,--text", o->text,
       windows ? "the text"
               : "tasks, one JSON object a line: {\"prompt\", \"choices\": [...], \"answer\": 0}")
      ->required()
      ->type_name("FILE");
  if (windows) {
    c->add_option("--protocol", o->protocol,
                  "gptq-2048, llama-512, paragraph (any window length: gptq-512 ...)");
    c->add_option("--kv", o->cache,
                  "numbers of MODEL's key and value cache: f32 f16 bf16 int8 fp8 int4, or "
                  "k:TYPE,v:TYPE (default: f32)")
        ->type_name("TYPE");
    c->add_option("--max-windows,--chunks", o->max_windows, "only the first windows (default: all)")
        ->check(CLI::Range(0, 1 << 30));
  }
  o->Common::add_to(*c);
  c->callback([o, work] { work(*o); });
  return o;
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* c = app.add_subcommand("eval",
                               "measure a model: perplexity, KL divergence from a base, accuracy");
  c->require_subcommand(1);
  add(*c, "ppl", "perplexity of a text", true, eval_ppl);
  auto o = add(*c, "kl", "KL divergence of MODEL from --base on the same tokens", true, eval_kl);
  auto* kl = c->get_subcommand("kl");
  kl->add_option("--base", o->base, "the original")->required()->type_name("MODEL");
  kl->add_option("--also", o->also, "more models to measure against the same base")
      ->type_name("MODEL");
  kl->add_flag("--no-noise-floor", o->no_noise_floor, "do not measure the base in bf16");
  add(*c, "choice", "accuracy on multiple choice", false, eval_choice);
}

}  // namespace pith::tools
