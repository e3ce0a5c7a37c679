#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/tokenizer/tokenizer.h"
#include "quant/quantize_pass.h"
#include "quant/rotate.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/journal.h"
#include "runtime/compress/self_text.h"
#include "tools/command.h"
#include "tools/mixed.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions {
  std::string output, type = "w4", method = "rtn", embedding_type = "w8", head_type = "w8",
                      group = "", calibration;
  std::string memory, target_size, type_file, plan_out, costs;
  std::vector<std::string> candidates;
  double target_bpw = 0, max_kl = 0;
  bool mixed() const { return !target_size.empty() || target_bpw > 0 || max_kl > 0; }
  std::vector<std::string> ignore, tensor_types;
  bool symmetric = false, asymmetric = false, dry_run = false, bf16_scales = false,
       two_level = false, rotate = false;
  int64_t nsamples = 64, seqlen = 1024;
  double damping = 0.3, smooth_alpha = 0;
  double correct_inputs = 1;
  int refine = 2, max_fallbacks = 0;
  bool static_inputs = false, no_order = false, no_search = false, static_groups = false,
       no_sequential = false, no_propagate = false;
  uint64_t seed = 0;
  std::string device = "cpu";
  ExecutorChoice executor() const { return {.cuda = device == "cuda", .inputs = CpuInputs::kF32}; }
};

std::optional<bool> symmetry(const Options& o) {
  if (o.symmetric) return true;
  if (o.asymmetric) return false;
  return {};
}

int64_t group_of(const std::string& text) {
  if (text.empty()) return -1;
  if (text == "row" || text == "channel" || text == "-1") return 0;
  int64_t g = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), g);
  if (error != std::errc() || end != text.data() + text.size() || g < 0) {
    fail(ErrorKind::kUsage, "--group-size {}: 16, 32, 64, 128 or row", text);
  }
  return g;
}

// "90M"; decimal units, as sizes are printed.
uint64_t size_of(const char* option, const std::string& text) {
  if (text.empty()) return 0;
  double v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  const std::string unit(end, text.data() + text.size());
  const double by = unit.empty()  ? 1
                    : unit == "k" ? 1e3
                    : unit == "M" ? 1e6
                    : unit == "G" ? 1e9
                                  : 0;
  if (error != std::errc() || by == 0 || !(v > 0) || v * by > 1e18)
    fail(ErrorKind::kUsage, "{} {}: a number of bytes, or of k, M or G", option, text);
  return static_cast<uint64_t>(v * by);
}

QuantizeSettings settings_of(const Options& o) {
  QuantizeSettings s;
  s.linears = encoding_for_type(o.type, group_of(o.group), symmetry(o));
  if (o.bf16_scales) s.linears.scale = DType::kBF16;
  if (o.two_level) s.linears.two_level = true;
  s.embedding = encoding_for_type(o.embedding_type);
  s.head = encoding_for_type(o.head_type);
  s.method = o.method;
  s.gptq = {.damping = o.damping,
            .order = !o.no_order,
            .search = !o.no_search,
            .static_groups = o.static_groups,
            .refine = o.refine,
            .correct_inputs = o.correct_inputs};
  s.smooth_alpha = o.smooth_alpha;
  s.input = input_for_type(o.type);
  if (o.static_inputs) {
    if (!s.input.rounds() || s.input.scale == InputScale::kBlock128)
      fail(ErrorKind::kUsage, "--static-inputs: type {} has no scale of inputs to fix", o.type);
    s.input.scale = InputScale::kTensor;
  }
  s.ignore = o.ignore;
  std::vector<std::string> types;
  if (!o.type_file.empty()) {
    std::istringstream lines(read_text_file(o.type_file, 16 << 20));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line[0] != '#') types.push_back(line);
    }
  }
  types.insert(types.end(), o.tensor_types.begin(), o.tensor_types.end());
  for (const auto& t : types) {
    const size_t eq = t.rfind('=');
    if (eq == std::string::npos || eq == 0)
      fail(ErrorKind::kUsage, "--tensor-type {}: PATTERN=TYPE is expected", t);
    s.overrides.emplace_back(t.substr(0, eq), encoding_for_type(t.substr(eq + 1)));
  }
  return s;
}

// Windows of seqlen tokens: spread evenly over the text, each after a BOS if the model has one, or
// written by the model.
void read_calibration(const Options& o, const std::string& from, const ModelSource& source,
                      Progress& progress, CompressOptions* to) {
  if (from == "self") {
    if (o.dry_run) {  // the plan needs to know how much text there will be
      to->calibration.assign(static_cast<size_t>(o.nsamples),
                             std::vector<int32_t>(static_cast<size_t>(o.seqlen)));
      return;
    }
    const Model model = load_model(source);
    const auto executor = make_executor(o.executor());
    const Held held(*executor);
    const int64_t length =
        std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
    to->calibration = write_windows(*executor, model, o.nsamples, length, o.seed, progress);
    Hasher h;
    for (const auto& w : to->calibration) h.add(std::as_bytes(std::span(w)));
    to->calibration_hash = h.value();
    return;
  }
  const std::string text = read_text_file(from, 1 << 30);
  to->calibration_hash = hash64(std::as_bytes(std::span(text)));
  const auto tokenizer = make_tokenizer(source.tokenizer());
  const auto tokens = tokenizer->encode(text, {.add_special = false});
  const int32_t bos = source.spec().bos_token();
  const int64_t seqlen = std::min<int64_t>(o.seqlen, static_cast<int64_t>(source.spec().context()));
  const int64_t body = seqlen - (bos >= 0);
  const int64_t available = static_cast<int64_t>(tokens.size()) / body;
  if (available == 0) {
    fail(ErrorKind::kUsage, "{}: {} tokens, one calibration window needs {}", from, tokens.size(),
         body);
  }
  const int64_t count = std::min(o.nsamples, available);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * available / count * body;
    std::vector<int32_t> w;
    if (bos >= 0) w.push_back(bos);
    w.insert(w.end(), tokens.begin() + begin, tokens.begin() + begin + body);
    to->calibration.push_back(std::move(w));
  }
}

// One compression with these settings; what became of it.
Json run(const Options& o, const ModelSource& source, const QuantizeSettings& settings,
         const CompressOptions& options, Progress& progress) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  const CompressPlan plan = plan_compression(source, passes, options);
  Json j = {{"source", o.model},
            {"output", o.output},
            {"type", to_string(settings.linears)},
            {"method", settings.method},
            {"parameters", parameter_count(source.spec())},
            {"bits_per_weight", plan.bits_per_weight},
            {"source_bytes", plan.source_bytes},
            {"planned_output_bytes", plan.output_bytes},
            {"planned_memory_bytes", plan.memory_bytes},
            {"planned_disk_bytes", plan.disk_bytes},
            {"planned_gpu_bytes", plan.gpu_bytes},
            {"calibration_tokens", plan.calibration_tokens}};
  if (o.prints()) {
    fmt::print("{} -> {}: {} with {}, {:.3f} bits per weight\n", o.model, o.output,
               to_string(settings.linears), settings.method, plan.bits_per_weight);
    fmt::print("plan: output {}, memory {}, disk {}{}{}\n", human_bytes(plan.output_bytes),
               human_bytes(plan.memory_bytes), human_bytes(plan.disk_bytes),
               plan.gpu_bytes ? ", GPU memory " + human_bytes(plan.gpu_bytes) : "",
               plan.calibration_tokens
                   ? fmt::format(", {} calibration tokens", plan.calibration_tokens)
                   : "");
  }
  if (o.dry_run) {
    Json linears = Json::array();
    for (const auto& l : plan.linears) {
      linears.push_back({{"name", l.info.name},
                         {"from", to_string(l.from)},
                         {"to", to_string(l.to)},
                         {"bytes", l.bytes}});
      if (o.prints() && !o.quiet) {
        fmt::print("  {:<28} {:>8} x {:<6} {:<12} -> {:<16} {:>10}\n", l.info.name, l.info.n,
                   l.info.k, to_string(l.from), to_string(l.to), human_bytes(l.bytes));
      }
    }
    j["linears"] = linears;
    return j;
  }

  const auto begin = std::chrono::steady_clock::now();
  const CompressReport report = compress(source, passes, options, progress);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  j["file_bytes"] = report.file_bytes;
  j["seconds"] = seconds;
  for (const auto& [name, s] : report.seconds) j["seconds_by_phase"][name] = s;
  j["worst_relative_error"] = report.worst_error;
  j["worst_linear"] = report.worst_linear;
  j["resumed_units"] = report.resumed_units;
  j["fallbacks"] = report.fallbacks;
  j["check_kl"] = report.check_kl;
  j["check_tokens"] = report.check_tokens;
  if (!o.prints()) return j;
  for (const auto& f : report.fallbacks) fmt::print("fallback: {}\n", f);
  if (report.resumed_units > 0)
    fmt::print("went on after {} finished parts of an interrupted run\n", report.resumed_units);
  fmt::print("wrote {} in {:.1f} s; largest relative error {:.2e} in {}\n",
             human_bytes(report.file_bytes), seconds, report.worst_error, report.worst_linear);
  if (o.quiet) return j;
  std::string phases;
  for (const auto& [name, s] : report.seconds)
    phases += fmt::format("{}{} {:.1f} s", phases.empty() ? "" : ", ", name, s);
  fmt::print("time: {}\n", phases);
  return j;
}

void quantize(const Options& o) {
  o.apply();
  const auto stored = open_model(o.model, o.tokenizer, !o.no_verify);
  const auto rotated = o.rotate ? rotate_model(*stored, {.seed = o.seed}) : nullptr;
  const ModelSource* source = rotated ? rotated.get() : stored.get();
  if (same_file(o.model, o.output) || source->reads(o.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", o.output);
  QuantizeSettings settings = settings_of(o);
  CompressOptions options;
  options.output = o.output;
  const auto executor = make_executor(o.executor());
  options.executor = executor.get();
  options.seed = o.seed;
  if (!o.memory.empty()) options.memory = size_of("--memory", o.memory);
  options.max_fallbacks = o.max_fallbacks;
  options.sequential = !o.no_sequential;
  options.propagate = !o.no_propagate;
  const StatisticsNeeds needs = make_quantize_pass(settings)->needs();
  const bool needs_text = needs.gram || needs.output || o.mixed() || o.static_inputs;
  const std::string calibration = !o.calibration.empty() ? o.calibration
                                  : needs_text           ? "self"
                                                         : "none";
  TerminalProgress progress(o.quiet);
  if (calibration != "none") read_calibration(o, calibration, *source, progress, &options);
  for (const auto& pattern : o.ignore) {
    bool matched = false;
    for (const auto& info : linears_of(source->spec()))
      matched = matched || matches_linear(pattern, info);
    if (!matched && pattern != "lm_head")
      warn(fmt::format("--ignore {} matches no layer", pattern));
  }
  if (!o.mixed()) {
    o.write_json(run(o, *source, settings, options, progress));
    return;
  }
  if (options.calibration.empty())
    fail(ErrorKind::kUsage, "mixed precision measures on text: --calib");
  MixedOptions asked{.target_bytes = size_of("--target-size", o.target_size),
                     .target_bpw = o.target_bpw,
                     .max_kl = o.max_kl,
                     .candidates = {},
                     .plan_out = o.plan_out,
                     .costs = o.costs,
                     .prints = o.prints() && !o.quiet};
  for (const auto& type : o.candidates) asked.candidates.push_back(encoding_for_type(type));
  Mixed mixed(asked, *source, settings, options, progress);
  if (o.max_kl <= 0 || o.dry_run) {
    o.write_json(run(o, *source, mixed.by_costs(), options, progress));
  } else {
    Json last;
    const double kl = mixed.search_for_kl(
        [&](const QuantizeSettings& s) { last = run(o, *source, s, options, progress); });
    last["kl"] = kl;
    o.write_json(last);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  std::string types = "TYPE is one of:\n";
  for (const auto& t : type_help()) types += fmt::format("  {:<5} {}\n", t.name, t.summary);
  types +=
      "  or an encoding by name: int4-g32-asym, int3-row-bf16, int4-g32-s8, nf4-g128, "
      "fp8e4m3-128x128, ...\n";
  types += "  or a scheme: W4A16, W4A16_ASYM, W8A16\nMethods:\n";
  for (const auto& m : methods()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  for (const auto& m : scalings()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  auto* c = app.add_subcommand("quantize", "quantize a checkpoint into a packed file");
  c->footer(types);
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "IN", "an HF folder, a GGUF file, a llama2.c file or a .pith file");
  c->add_option("OUT", o->output, "the .pith file to write")->required()->type_name("FILE");
  c->add_option("TYPE", o->type, "see below (default: w4)");
  c->add_option("--method", o->method, "see below (default: rtn)");
  c->add_option("-g,--group-size", o->group, "weights that share a scale: 16 32 64 128 row")
      ->type_name("N");
  auto* sym = c->add_flag("--sym", o->symmetric, "no zero points");
  c->add_flag("--asym", o->asymmetric, "zero points")->excludes(sym);
  c->add_flag("--bf16-scales", o->bf16_scales, "scales in bf16 rather than f16");
  c->add_flag("--two-level-scales", o->two_level,
              "8-bit scales of groups under one 16-bit scale a row");
  c->add_option("--embedding-type,--token-embedding-type", o->embedding_type,
                "type of the embedding (default: w8)");
  c->add_option("--head-type,--output-tensor-type", o->head_type,
                "type of the output head where it is not tied (default: w8)");
  c->add_option("--ignore", o->ignore,
                "layers that stay as they are: a name, a role (down), a glob or re:REGEX")
      ->type_name("PATTERN");
  c->add_option("--tensor-type", o->tensor_types, "another type for some layers")
      ->type_name("PATTERN=TYPE");
  c->add_option("--calib", o->calibration,
                "text to calibrate on; \"self\": the model writes it (what "
                "gptq and awq do where nothing is said), \"none\"")
      ->type_name("FILE");
  c->add_option("--nsamples", o->nsamples, "calibration windows (default: 64)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("--seqlen", o->seqlen, "tokens of a calibration window (default: 1024)")
      ->check(CLI::Range(8, 1 << 20));
  c->add_flag("--rotate", o->rotate,
              "rotate the model first, so that no channel stands out; a tied head is untied");
  c->add_option("--damp-percent", o->damping,
                "gptq: added to the diagonal, as a share of its mean (default: 0.3)")
      ->check(CLI::Range(0.0, 10.0));
  c->add_option("--refine", o->refine, "gptq: rounds of refinement after the sweep (default: 2)")
      ->check(CLI::Range(0, 100));
  c->add_option("--smooth-alpha", o->smooth_alpha,
                "smoothquant: how much of an outlier moves into the weights (default: by search)")
      ->check(CLI::Range(0.0, 1.0));
  c->add_option("--correct-inputs", o->correct_inputs,
                "gptq: make up for errors of earlier layers as far as held-out text says, at most "
                "this share of the way; 0: not (default: 1)")
      ->check(CLI::Range(0.0, 1.0));
  c->add_flag("--static-inputs", o->static_inputs,
              "w8a8, fp8_dynamic: one constant scale of inputs a layer, from the calibration text");
  c->add_option("--target-size", o->target_size,
                "mixed precision: the best file of at most this size (bytes, or with k M G)")
      ->type_name("SIZE");
  c->add_option("--target-bpw", o->target_bpw,
                "mixed precision: of at most so many bits per weight")
      ->check(CLI::Range(1.0, 16.0));
  c->add_option("--max-kl", o->max_kl,
                "mixed precision: the smallest file whose mean KL divergence is about this")
      ->check(CLI::Range(1e-6, 10.0));
  c->add_option(
       "--candidates", o->candidates,
       "types that mixed precision chooses from (default: w2 to w8 in groups of 64 with and "
       "without zero points, w4 in groups of 32 and 128)")
      ->type_name("TYPE");
  c->add_option("--memory", o->memory,
                "calibration states that would take more go to a file beside the output")
      ->type_name("SIZE");
  c->add_option("--tensor-type-file", o->type_file,
                "lines PATTERN=TYPE, as --plan-out writes them");
  c->add_option("--plan-out", o->plan_out, "write the chosen types as such lines");
  c->add_option("--costs", o->costs,
                "mixed precision: keep what the choices cost in this file, for the next size")
      ->type_name("FILE");
  c->add_flag("--no-order", o->no_order, "gptq: columns as they come, not by importance");
  c->add_flag("--no-search", o->no_search, "gptq: scales from the range of each group");
  c->add_flag("--static-groups", o->static_groups, "gptq: scales from the original weights");
  c->add_flag("--no-sequential", o->no_sequential,
              "collect the inputs of a sublayer before any of it is compressed");
  c->add_flag("--no-propagate", o->no_propagate, "calibrate on inputs of the uncompressed model");
  c->add_option("--max-fallbacks", o->max_fallbacks,
                "layers that may get less than was asked for (default: 0)")
      ->check(CLI::Range(0, 1 << 20));
  c->add_option(
       "--device", o->device,
       "where the model is run on the calibration text, and where gptq rounds: cpu or cuda "
       "(default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  c->add_option("--seed", o->seed, "recorded; makes random choices the same");
  c->add_flag("--dry-run", o->dry_run,
              "print the plan of every layer, of memory and disk, and stop");
  o->Common::add_to(*c);
  c->callback([o] { quantize(*o); });
}

}  // namespace pith::tools
