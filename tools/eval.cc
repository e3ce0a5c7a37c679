#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "formats/printable.h"
#include "formats/text_input.h"
#include "runtime/backends.h"
#include "runtime/eval/bf16_executor.h"
#include "runtime/eval/choice.h"
#include "tools/arguments.h"
#include "tools/evaluation.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr const char* kFilesGroup = "Files of the evaluation";

struct Options : Common, ModelOptions, ExecutorOptions {
  TextOptions text;
  std::string base, cache, resume, save_logits, tasks, examples;
  std::vector<std::string> more, also;
  int64_t shots = 0, max_tasks = 0;
  bool no_noise_floor = false;

  KvTypes cache_types() const {
    return cache.empty() ? NumberFormat::kF32 : parse_kv_types(cache, NumberFormat::kF32);
  }
  void check_outputs() const {
    check_side_file(resume);
    check_side_file(save_logits);
    if (!resume.empty() && !save_logits.empty())
      fail(ErrorKind::kUsage,
           "logits cannot be stored by an evaluation that goes on: leave out one "
           "of --resume and --save-logits");
  }
};

// The settings that the figures depend on; --resume refuses a file of other settings.
Json settings_of(const Options& o, const char* what, const std::vector<uint64_t>& models,
                 const std::vector<Window>& windows, const Executor& executor) {
  std::string machine = executor.description();  // "CPU, avx512, 2 threads": these do not matter
  if (machine.ends_with(" threads")) machine.resize(machine.rfind(','));
  Json hashes = Json::array();
  for (const uint64_t h : models) hashes.push_back(fmt::format("{:016x}", h));
  return {{"evaluation", what},
          {Measurements::kInputs,
           {{"models", hashes}, {"tokens", fmt::format("{:016x}", hash_of(windows))}}},
          {"windows", windows.size()},
          {"executor", machine},
          {"exact inputs", o.exact_inputs},
          {"cache", to_string(o.cache_types())}};
}

// The table of measurements, with those of an interrupted run.
Measurements table_of(const Options& o, size_t columns, const Json& settings, int64_t tokens) {
  if (o.resume.empty()) return Measurements(columns);
  Measurements table(columns, o.resume, settings);
  if (table.restored() > 0) {
    tell("resuming at {:.0f} %: {} of {} tokens are in {}\n",
         100 * static_cast<double>(table.restored()) / static_cast<double>(tokens),
         table.restored(), tokens, o.resume);
  }
  return table;
}

// Runs the evaluation; the error of an interrupt says how to resume.
template <class F>
auto interruptible(const Options& o, const Measurements& table, int64_t tokens, F work) {
  try {
    return work();
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCancelled || o.resume.empty()) throw;
    fail(ErrorKind::kCancelled,
         "{} at {:.0f} %; the same command goes on from there, by what is in {}", e.what(),
         100 * static_cast<double>(table.rows()) / static_cast<double>(tokens), o.resume);
  }
}

std::unique_ptr<LogitsWriter> logits_writer(const Options& o, const ModelSource& base,
                                            const EvaluationText& t, int64_t tokens) {
  if (o.save_logits.empty()) return nullptr;
  const auto& spec = base.spec();
  const LogitsHeader h{.vocab = static_cast<uint32_t>(spec.vocab()),
                       .tokens = static_cast<uint64_t>(tokens),
                       .windows = t.windows.size(),
                       .model_hash = base.hash(),
                       .text_hash = t.text.hash,
                       .windows_hash = hash_of(t.windows),
                       .protocol = t.protocol.name()};
  tell("{}: {} of logits\n", o.save_logits,
       human_bytes(h.tokens * logits_record_bytes(spec.vocab())));
  return std::make_unique<LogitsWriter>(o.save_logits, h);
}

// Where a figure says little, with its standard error.
void warn_few_tokens(int64_t tokens, const std::string& figure) {
  constexpr int64_t kFew = 1000;
  if (tokens >= kFew) return;
  warn(fmt::format("only {} scored: {} (standard error); a longer text says more",
                   counted(tokens, "token"), figure));
}

void eval_ppl(const Options& o) {
  o.apply();
  const KvTypes cache = o.cache_types();
  o.check_outputs();
  const auto executor = make_executor(o.executor());
  EvaluationText t = read_text(o.text);
  OpenedModel m = open_for_evaluation(o, o.model);
  make_text_windows(o.text, *m.source, m.source->spec().context(), &t);
  warn_same_text(*m.source, t.text.hash);
  const int64_t tokens = check_windows(t.windows, m.source->spec().vocab());
  Measurements table =
      table_of(o, kPerplexityColumns,
               settings_of(o, "ppl", {m.source->hash()}, t.windows, *executor), tokens);
  const auto logits = logits_writer(o, *m.source, t, tokens);
  m.model = load_model(*m.source);
  executor->prepare(m.model);
  TerminalProgress progress(o.quiet);
  const auto r = interruptible(o, table, tokens, [&] {
    return evaluate_perplexity(*executor, m.model, t.windows, progress, cache,
                               {&table, logits.get()});
  });
  if (logits) logits->finish();
  warn_of_fallbacks(*executor);
  o.write_json({{"model", o.model},
                {"protocol", t.protocol.name()},
                {"protocol_summary", t.protocol.summary()},
                {"text_hash", fmt::format("{:016x}", t.text.hash)},
                {"cache", to_string(cache)},
                {"windows", t.windows.size()},
                {"tokens", r.tokens},
                {"nll", r.nll},
                {"perplexity", r.perplexity},
                {"perplexity_standard_error", r.standard_error}});
  table.remove();
  warn_few_tokens(r.tokens,
                  fmt::format("perplexity {:.4g} +- {:.2g}", r.perplexity, r.standard_error));
  if (!o.prints()) return;
  say("perplexity {:.4f} +- {:.4f}  ({}, {} tokens, nll {:.5f})\n", r.perplexity, r.standard_error,
      t.description(), r.tokens, r.nll);
}

void print(const KlResult& r) {
  say("KL divergence  mean {:.6f} +- {:.6f}  median {:.6f}  99% {:.5f}  99.9% {:.5f}  max {:.4f}\n",
      r.kl_mean, r.kl_standard_error, r.kl_median, r.kl_p99, r.kl_p999, r.kl_max);
  say("same top token {:.3f} %   rms change of probability {:.4f} %\n", 100 * r.same_top,
      100 * r.rms_probability_change);
  say("perplexity     {:.4f}, base {:.4f}, ratio {:.5f} +- {:.5f}\n", r.candidate.perplexity,
      r.base.perplexity, r.ppl_ratio, r.ppl_ratio_error);
}

// Checks that stored logits of the base are of this text, these windows and this vocabulary.
void check_stored(const LogitsReader& stored, const ModelSource& source, const EvaluationText& t,
                  const Options& o) {
  const LogitsHeader& h = stored.header();
  if (h.vocab != source.spec().vocab()) {
    fail(ErrorKind::kUsage, "{}: logits of a model with {} tokens, {} has {}", o.base, h.vocab,
         o.model, source.spec().vocab());
  }
  if (h.text_hash != t.text.hash)
    fail(ErrorKind::kUsage, "{}: its logits are of another text than {}", o.base, o.text.text);
  if (h.protocol != t.protocol.name() || h.windows != t.windows.size()) {
    fail(ErrorKind::kUsage, "{}: its logits are of {} of {}, not of {} of {}", o.base,
         counted(static_cast<int64_t>(h.windows), "window"), printable(h.protocol),
         counted(std::ssize(t.windows), "window"), t.protocol.name());
  }
  if (h.windows_hash != hash_of(t.windows))
    fail(ErrorKind::kUsage, "{}: the tokenizer of {} splits the text into other tokens", o.base,
         o.model);
}

// The KL divergence of the base in bf16, on a few windows, which are enough to tell its size.
KlResult noise_floor(Executor& executor, const OpenedModel& base,
                     const std::vector<Window>& windows) {
  std::vector<Window> few;
  int64_t tokens = 0;
  for (const auto& w : windows) {
    if (tokens >= 512) break;
    few.push_back(w);
    // The beginning of a long window will do.
    const auto needed = static_cast<size_t>(w.first_scored + 1 + 512 - tokens);
    if (few.back().tokens.size() > needed) few.back().tokens.resize(needed);
    tokens += few.back().scored();
  }
  const Model rounded = load_dense_model(*base.source, DType::kBF16);
  Bf16Executor bf16(executor);
  const KlCandidate floor_of[] = {{.model = rounded, .executor = &bf16}};
  SilentProgress progress(interrupt());
  return evaluate_kl(executor, base.model, floor_of, few, progress).front();
}

// The base, as a model or as stored logits, and the models that are measured against it.
struct KlModels {
  std::unique_ptr<LogitsReader> stored;  // null: `base` is a model
  OpenedModel base;
  std::vector<OpenedModel> models;

  // Its tokenizer is used: all models see the same tokens.
  const ModelSource& first() const { return stored ? *models[0].source : *base.source; }
};

KlModels open_models(const Options& o) {
  KlModels m;
  if (looks_like_logits_file(o.base)) {
    m.stored = std::make_unique<LogitsReader>(o.base);
  } else {
    m.base = open_for_evaluation(o, o.base);
  }
  if (m.stored && !o.save_logits.empty())
    fail(ErrorKind::kUsage, "--save-base: the logits of {} are stored already", o.base);
  m.models.push_back(open_for_evaluation(o, o.model));
  for (const auto* paths : {&o.more, &o.also}) {
    for (const auto& path : *paths) m.models.push_back(open_for_evaluation(o, path));
  }
  return m;
}

// The windows, none longer than what every model takes. Stored logits say what they are of.
void make_kl_windows(const Options& o, const KlModels& m, EvaluationText* t) {
  uint64_t context = m.first().spec().context();
  for (const auto& model : m.models)
    context = std::min<uint64_t>(context, model.source->spec().context());
  TextOptions text = o.text;
  if (m.stored && text.protocol.empty() && text.stride == 0) {
    const LogitsHeader& h = m.stored->header();
    text.protocol = h.protocol;
    if (text.max_windows < 0)
      text.max_windows = static_cast<int64_t>(std::min<uint64_t>(h.windows, INT_MAX));
  }
  make_text_windows(text, m.first(), context, t);
  if (m.stored) check_stored(*m.stored, m.first(), *t, o);
}

// Refuses what cannot be compared, and warns of what is probably a mistake. The hashes of base and
// models.
std::vector<uint64_t> check_models(const Options& o, const KlModels& m, const EvaluationText& t) {
  std::vector<uint64_t> hashes = {m.stored ? m.stored->header().model_hash : m.base.source->hash()};
  for (const auto& model : m.models) {
    const bool is_first = m.stored && &model == &m.models[0];
    if (!is_first) check_comparable(m.first(), model, t, !o.tokenizer.empty());
    if (!m.stored) warn_exchanged(m.first(), model);
    warn_same_text(*model.source, t.text.hash);
    hashes.push_back(model.source->hash());
  }
  return hashes;
}

std::vector<KlCandidate> load_models(Executor& executor, KvTypes cache, KlModels* m) {
  if (!m->stored) {
    m->base.model = load_model(*m->base.source);
    executor.prepare(m->base.model);
  }
  std::vector<KlCandidate> candidates;
  for (auto& model : m->models) {
    model.model = load_model(*model.source);
    executor.prepare(model.model);
    candidates.push_back({.model = model.model, .cache = cache});
  }
  return candidates;
}

// The figures of the first model, then those of all in one list.
Json json_of_models(const Options& o, const KlModels& m, const EvaluationText& t,
                    const std::vector<KlResult>& results) {
  Json j = json_of(results.front());
  j.update({{"base", o.base},
            {"base_is_stored", m.stored != nullptr},
            {"model", o.model},
            {"protocol", t.protocol.name()},
            {"protocol_summary", t.protocol.summary()},
            {"text_hash", fmt::format("{:016x}", t.text.hash)},
            {"cache", to_string(o.cache_types())},
            {"windows", t.windows.size()}});
  for (size_t i = 0; i < results.size(); ++i) {
    Json one = json_of(results[i]);
    one["model"] = m.models[i].path;
    j["models"].push_back(one);
  }
  return j;
}

void print(const KlModels& m, const EvaluationText& t, const std::vector<KlResult>& results,
           const std::optional<KlResult>& floor) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (results.size() > 1) say("{}\n", m.models[i].path);
    print(results[i]);
  }
  if (floor) {
    say("noise floor    {:.2e} mean KL of the base in bf16, {} tokens\n", floor->kl_mean,
        floor->tokens);
  }
  say("protocol       {}, {} tokens\n", t.description(), results.front().tokens);
}

void eval_kl(const Options& o) {
  o.apply();
  const KvTypes cache = o.cache_types();
  o.check_outputs();
  const auto executor = make_executor(o.executor());
  EvaluationText t = read_text(o.text);
  KlModels m = open_models(o);
  make_kl_windows(o, m, &t);
  const std::vector<uint64_t> hashes = check_models(o, m, t);
  const int64_t tokens = check_windows(t.windows, m.first().spec().vocab());
  Measurements table = table_of(
      o, kl_columns(m.models.size()),
      settings_of(o, m.stored ? "kl, stored base" : "kl", hashes, t.windows, *executor), tokens);
  const auto logits = m.stored ? nullptr : logits_writer(o, *m.base.source, t, tokens);
  const std::vector<KlCandidate> candidates = load_models(*executor, cache, &m);
  TerminalProgress progress(o.quiet);
  const EvaluationFiles files{&table, logits.get()};
  const std::vector<KlResult> results = interruptible(o, table, tokens, [&] {
    return m.stored ? evaluate_kl(*executor, *m.stored, candidates, t.windows, progress, files)
                    : evaluate_kl(*executor, m.base.model, candidates, t.windows, progress, files);
  });
  if (logits) logits->finish();
  Json j = json_of_models(o, m, t, results);
  std::optional<KlResult> floor;
  if (!o.no_noise_floor && !m.stored) {
    floor = noise_floor(*executor, m.base, t.windows);
    j["noise_floor_kl_mean"] = floor->kl_mean;
    j["noise_floor_tokens"] = floor->tokens;
  }
  warn_of_fallbacks(*executor);
  o.write_json(j);
  table.remove();
  const KlResult& f = results.front();
  warn_few_tokens(f.tokens,
                  fmt::format("mean KL {:.2g} +- {:.2g}", f.kl_mean, f.kl_standard_error));
  if (o.prints()) print(m, t, results, floor);
}

void eval_choice(const Options& o) {
  o.apply();
  o.check_outputs();
  if ((o.shots > 0) != !o.examples.empty())
    fail(ErrorKind::kUsage, "--shots N and --examples FILE go together");
  const auto executor = make_executor(o.executor());
  constexpr uint64_t kMax = 1 << 30;
  ChoiceTasks t = read_choice_tasks(read_text_input(o.tasks, kMax, interrupt()), o.tasks);
  if (o.max_tasks > 0 && t.tasks.size() > static_cast<size_t>(o.max_tasks))
    t.tasks.resize(static_cast<size_t>(o.max_tasks));
  if (o.shots > 0) {
    const auto examples =
        read_choice_tasks(read_text_input(o.examples, kMax, interrupt()), o.examples);
    if (examples.format != t.format)
      fail(ErrorKind::kUsage, "{}: examples of {} for tasks of {}", o.examples, examples.format,
           t.format);
    add_shots(examples.tasks, o.shots, &t.tasks);
  }
  add_descriptions(&t.tasks);
  OpenedModel m = open_for_evaluation(o, o.model);
  const auto tokenizer = load_tokenizer_for(*m.source);
  m.model.spec = m.source->spec();
  const auto windows = choice_windows(m.model, *tokenizer, t.tasks);
  const int64_t tokens = check_windows(windows, m.model.spec.vocab());
  Measurements table =
      table_of(o, kPerplexityColumns,
               settings_of(o, "choice", {m.source->hash()}, windows, *executor), tokens);
  if (!o.quiet) {
    tell("{}: {}, read as {}{}\n", o.tasks, counted(std::ssize(t.tasks), "task"), t.format,
         t.keys.empty() ? ""
                        : fmt::format(" because of {} in the first", fmt::join(t.keys, " and ")));
  }
  m.model = load_model(*m.source);
  executor->prepare(m.model);
  TerminalProgress progress(o.quiet);
  const auto r = interruptible(o, table, tokens, [&] {
    return evaluate_choice(*executor, m.model, *tokenizer, t.tasks, progress, {&table, nullptr});
  });
  warn_of_fallbacks(*executor);
  o.write_json({{"model", o.model},
                {"format", t.format},
                {"shots", o.shots},
                {"tasks", r.tasks},
                {"acc", r.accuracy},
                {"acc_norm", r.accuracy_by_length},
                {"acc_interval_95", {r.low, r.high}},
                {"acc_standard_error", r.standard_error}});
  table.remove();
  if (o.prints()) {
    say("accuracy {:.2f} % (95 %: {:.2f} to {:.2f}), length-normalized {:.2f} %  ({} tasks of {}, "
        "{}-shot)\n",
        100 * r.accuracy, 100 * r.low, 100 * r.high, 100 * r.accuracy_by_length, r.tasks, t.format,
        o.shots);
  }
}

std::shared_ptr<Options> add(CLI::App& parent, const char* name, const char* what,
                             void (*work)(Options&)) {
  auto* c = parent.add_subcommand(name, what);
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL", kModelHelp);
  o->ExecutorOptions::add_to(*c);
  c->add_option("--resume", o->resume,
                "keep what is measured in this file: after an interrupt, the same command goes on "
                "and gives the same figures")
      ->type_name("FILE")
      ->group(kFilesGroup);
  o->Common::add_to(*c);
  c->callback([o, work] { work(*o); });
  return o;
}

void add_text_options(CLI::App& c, Options& o) {
  o.text.add_to(c);
  c.add_option("--kv", o.cache,
               "numbers of MODEL's key and value cache: f32 f16 bf16 int8 fp8 int4, or "
               "k:TYPE,v:TYPE (default: f32)")
      ->type_name("TYPE")
      ->group(kModelGroup);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* c = app.add_subcommand("eval",
                               "measure a model: perplexity, KL divergence from a base, accuracy");
  c->require_subcommand(1);
  auto ppl = add(*c, "ppl", "perplexity of a text", [](Options& o) { eval_ppl(o); });
  auto* of_ppl = c->get_subcommand("ppl");
  add_text_options(*of_ppl, *ppl);
  of_ppl
      ->add_option("--save-logits", ppl->save_logits,
                   "store the model's distributions, as a base for `eval kl`")
      ->type_name("FILE")
      ->group(kFilesGroup);
  auto kl = add(*c, "kl", "KL divergence of MODEL from --base on the same tokens",
                [](Options& o) { eval_kl(o); });
  auto* of_kl = c->get_subcommand("kl");
  of_kl->add_option("--base", kl->base, "the original, or its stored logits")
      ->required()
      ->type_name("MODEL");
  add_text_options(*of_kl, *kl);
  constexpr const char* kMore = "more models to measure against the same base";
  of_kl->add_option("MORE", kl->more, kMore)->type_name("MODEL");
  of_kl->add_option("--also", kl->also, kMore)->type_name("MODEL")->group(kModelGroup);
  of_kl
      ->add_option("--save-base,--save-logits", kl->save_logits,
                   "store the base's distributions (2 bytes for each token of the vocabulary and "
                   "each scored token), for a later --base FILE")
      ->type_name("FILE")
      ->group(kFilesGroup);
  of_kl->add_flag("--no-noise-floor", kl->no_noise_floor, "do not measure the base in bf16")
      ->group(kModelGroup);
  auto choice =
      add(*c, "choice", "accuracy on multiple choice", [](Options& o) { eval_choice(o); });
  auto* of_choice = c->get_subcommand("choice");
  constexpr const char* kTasks = "Tasks";
  of_choice
      ->add_option("-f,--text,--tasks", choice->tasks,
                   "tasks as HellaSwag, Winogrande, ARC and MMLU publish them (JSON, JSON lines, "
                   "CSV), or lines of {\"prompt\", \"choices\": [...], \"answer\": 0}; .gz, - too")
      ->required()
      ->type_name("FILE");
  of_choice
      ->add_option("--shots", choice->shots,
                   "put so many examples with answers before each (default: 0)")
      ->check(in_range(0, 1000))
      ->group(kTasks);
  of_choice->add_option("--examples", choice->examples, "what they are taken from, in order")
      ->type_name("FILE")
      ->group(kTasks);
  of_choice->add_option("--max-tasks", choice->max_tasks, "only the first tasks (default: all)")
      ->check(in_range(0, 1 << 30))
      ->group(kTasks);
}

}  // namespace pith::tools
