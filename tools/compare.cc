#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "quant/quantize_pass.h"
#include "runtime/backends.h"
#include "runtime/compress/driver.h"
#include "runtime/forward/forward.h"
#include "tools/calibration_text.h"
#include "tools/comparison.h"
#include "tools/evaluation.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions, ExecutorOptions {
  TextOptions text;
  std::vector<std::string> types, files, calibration;
  std::string method = "rtn", format, output, keep;
  bool no_speed = false;
};

// The folder of the compressed files: temporary, or kept where the user names it.
class Folder {
 public:
  explicit Folder(const std::string& kept) : path_(kept), kept_(!kept.empty()) {
    std::error_code error;
    if (kept_) {
      std::filesystem::create_directories(path_, error);
      if (!is_folder(path_)) fail(ErrorKind::kIo, "{}: cannot make this folder", path_);
      return;
    }
    path_ = std::filesystem::temp_directory_path(error).string();
    path_ = join_path(error ? "/tmp" : path_, "pith-compare-XXXXXX");
    if (::mkdtemp(path_.data()) == nullptr)
      fail(ErrorKind::kIo, "{}: cannot make a folder: {}", path_, std::strerror(errno));
  }
  ~Folder() {
    std::error_code error;
    if (!kept_) std::filesystem::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& type) const { return join_path(path_, type + ".pith"); }

 private:
  std::string path_;
  const bool kept_;
};

bool is_type(const std::string& name) {
  try {
    encoding_for_type(name);
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Moves types from the list of files to that of types: CLI11 takes w4 of `--types w8 w4` for a
// file.
void sort_out(std::vector<std::string>* types, std::vector<std::string>* files) {
  std::vector<std::string> kept;
  for (const auto& f : *files) (file_exists(f) || !is_type(f) ? kept : *types).push_back(f);
  *files = kept;
  std::vector<std::string> once;
  for (const auto& t : *types) {
    encoding_for_type(t);  // or an error
    if (std::ranges::find(once, t) == once.end()) once.push_back(t);
  }
  *types = once;
  if (types->empty() && files->empty()) *types = {"w8", "w6", "w4", "w3"};
}

// The windows that `pith quantize` takes: 64 of 1024 tokens, evenly from the text.
void read_calibration(const CalibrationInputs& inputs, const ModelSource& source,
                      Executor& executor, Progress& progress, CompressOptions* to) {
  constexpr int64_t kWindows = 64, kTokens = 1024;
  const int64_t length = std::min<int64_t>(kTokens, static_cast<int64_t>(source.spec().context()));
  const auto tokenizer =
      source.tokenizer().empty() && !has_files(inputs) ? nullptr : load_tokenizer(source);
  cut_calibration_text(inputs, source, tokenizer.get(), kWindows, length, to);
  const TextRequest text = request_of(*to, source, tokenizer.get());
  if (text.count == 0) return;
  const Model model = load_model(source);
  const WeightCacheScope held(executor);
  put_written_text(write_windows(executor, model, text, progress), to);
}

Passes passes_for(const QuantizeSettings& settings) {
  Passes passes;
  passes.push_back(make_quantize_pass(settings));
  return passes;
}

QuantizeSettings settings_for(const Options& o, const std::string& type) {
  QuantizeSettings s;
  s.linears = encoding_for_type(type);
  s.input = input_for_type(type);
  s.method = parse_method(o.method);
  return s;
}

// Compresses the base to every type; returns the files, in order of the types.
std::vector<std::string> quantize_all(const Options& o, const ModelSource& source,
                                      const Folder& folder, Progress& progress) {
  CompressOptions options;
  const auto executor = make_executor({.cuda = o.device == "cuda", .inputs = CpuInputs::kF32});
  options.executor = executor.get();
  const auto needs = make_quantize_pass(settings_for(o, o.types.front()))->needs();
  const bool needed = needs.gram || needs.output;
  const CalibrationInputs calibration = calibration_inputs(
      !o.calibration.empty() || !needed ? o.calibration : default_sources(source));
  // All checks come before the first long step.
  uint64_t bytes = 0;
  for (const auto& type : o.types) {
    options.output = folder.file(type);
    const auto is_output = [&](const std::string& f) { return same_file(f, options.output); };
    if (is_output(o.model) || source.reads(options.output) ||
        std::ranges::any_of(o.files, is_output))
      fail(ErrorKind::kUsage, "{}: is a model of this comparison, and --keep would replace it",
           options.output);
    check_writable(options.output);
    for (const auto& side : {o.output, o.json}) require_not_output(side, options.output);
    if (file_exists(options.output)) tell("replaces {}\n", one_line(options.output));
    bytes += plan_compression(source, passes_for(settings_for(o, type)), options).output_bytes;
  }
  if (!o.quiet) {
    tell("compressing {} to {} with {}: {} in all\n", one_line(o.model), fmt::join(o.types, ", "),
         o.method, human_bytes(bytes));
  }
  if (!calibration.empty()) read_calibration(calibration, source, *executor, progress, &options);
  std::vector<std::string> made;
  for (const auto& type : o.types) {
    options.output = folder.file(type);
    const auto report = compress(source, passes_for(settings_for(o, type)), options, progress);
    if (!o.quiet) tell("{}: {}\n", type, human_bytes(report.file_bytes));
    made.push_back(options.output);
  }
  return made;
}

// Decoding speed after a short prompt, from the median time of a token.
double decode_speed(Executor& executor, const Model& model) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kPrompt = 16, kMax = 64, kLeast = 8;
  const auto length = static_cast<int64_t>(std::min<uint64_t>(model.spec.context(), 128));
  const auto cache = executor.make_cache(model.spec, {1, length, NumberFormat::kF16});
  const std::vector<int32_t> tokens(static_cast<size_t>(kPrompt), 0);
  std::vector<double> seconds;
  double total = 0;
  const auto step = [&](int64_t position, int64_t count) {
    const Segment segment[] = {{0, position, count}};
    const int64_t last[] = {count - 1};
    const Batch batch{std::span(tokens).first(static_cast<size_t>(count)), segment};
    forward_logits(executor, model, batch, *cache, last);
    executor.wait();
  };
  const int64_t prompt = std::min(kPrompt, length / 2);
  step(0, prompt);
  for (int64_t i = 0; i < std::min(kMax, length - prompt); ++i) {
    interrupt().check();
    const auto begin = Clock::now();
    step(prompt + i, 1);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    total += seconds.back();
    if (i + 1 >= kLeast && total > 5) break;
  }
  std::ranges::nth_element(seconds, seconds.begin() + std::ssize(seconds) / 2);
  return 1 / seconds[seconds.size() / 2];
}

std::string format_of(const Options& o) {
  if (!o.format.empty()) return o.format;
  const std::string end = std::filesystem::path(o.output).extension().string();
  for (const char* f : {"md", "csv", "json", "html"}) {
    if (end == std::string(".") + f) return f;
  }
  return end == ".htm" ? "html" : "table";
}

ComparedModel row_of(const std::string& name, const OpenedModel& m) {
  ComparedModel row;
  row.name = name;
  row.path = m.path;
  row.file_bytes = bytes_on_disk(m.path);
  row.bits = bits_per_weight(*m.source);
  return row;
}

std::string name_of(const std::string& path) {
  const auto p = std::filesystem::path(path);
  const std::string name = (p.has_filename() ? p : p.parent_path()).filename().string();
  return name.empty() ? path : name;
}

void compare(Options& o) {
  o.apply();
  check_side_file(o.output);
  const std::string format = format_of(o);
  sort_out(&o.types, &o.files);
  const auto executor = make_executor(o.executor());
  EvaluationText text = read_text(o.text);
  OpenedModel base = open_for_evaluation(o, o.model);
  std::vector<OpenedModel> models;
  std::vector<std::string> names;
  uint64_t context = base.source->spec().context();
  for (const auto& f : o.files) {
    models.push_back(open_for_evaluation(o, f));
    names.push_back(name_of(f));
    context = std::min<uint64_t>(context, models.back().source->spec().context());
  }
  make_text_windows(o.text, *base.source, context, &text);
  for (const auto& m : models) {
    check_comparable(*base.source, m, text, !o.tokenizer.empty());
    warn_exchanged(*base.source, m);
  }

  TerminalProgress progress(o.quiet);
  const Folder folder(o.keep);
  if (!o.types.empty()) {
    const auto made = quantize_all(o, *base.source, folder, progress);
    for (size_t i = 0; i < made.size(); ++i) {
      models.insert(models.begin() + static_cast<std::ptrdiff_t>(i),
                    open_for_evaluation(o, made[i]));
      names.insert(names.begin() + static_cast<std::ptrdiff_t>(i), o.types[i]);
    }
  }
  base.model = load_model(*base.source);
  executor->prepare(base.model);
  std::vector<KlCandidate> candidates;
  for (auto& m : models) {
    warn_same_text(*m.source, text.text.hash);
    m.model = load_model(*m.source);
    executor->prepare(m.model);
  }
  for (const auto& m : models) candidates.push_back({.model = m.model});
  const auto results = evaluate_kl(*executor, base.model, candidates, text.windows, progress);

  Comparison c{.base = o.model,
               .protocol = text.protocol.name(),
               .summary = text.protocol.summary(),
               .text = o.text.text,
               .method = o.types.empty() ? "" : o.method,
               .tokens = results.front().tokens,
               .models = {}};
  c.models.push_back(row_of("base", base));
  c.models[0].perplexity = results.front().base.perplexity;
  c.models[0].perplexity_error = results.front().base.standard_error;
  for (size_t i = 0; i < models.size(); ++i) {
    const KlResult& r = results[i];
    ComparedModel row = row_of(names[i], models[i]);
    row.perplexity = r.candidate.perplexity;
    row.perplexity_error = r.candidate.standard_error;
    row.kl = r.kl_mean;
    row.kl_error = r.kl_standard_error;
    row.same_top = r.same_top;
    c.models.push_back(std::move(row));
  }
  if (!o.no_speed) {
    c.models[0].tokens_per_second = decode_speed(*executor, base.model);
    for (size_t i = 0; i < models.size(); ++i)
      c.models[i + 1].tokens_per_second = decode_speed(*executor, models[i].model);
  }
  if (o.keep.empty()) {  // files that are gone have no path
    for (size_t i = 0; i < o.types.size(); ++i) c.models[i + 1].path.clear();
  }
  warn_of_fallbacks(*executor);
  o.write_json(json_of(c));
  const bool to_file = !o.output.empty() && o.output != "-";
  const int width = is_terminal(1) || std::getenv("COLUMNS") != nullptr ? columns(1) : 1 << 20;
  const std::string out = to_file ? render(c, format) : render(c, format, width);
  if (to_file) {
    write_file(o.output, std::as_bytes(std::span(out)), interrupt());
    if (o.prints() && !o.quiet) say("{}", render(c, "table", width));
  } else if (o.prints()) {
    say("{}", out);
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto* c = app.add_subcommand(
      "compare", "compress a model to several types and compare them: size, quality, speed");
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "BASE", "the original");
  c->add_option("FILES", o->files, "models to compare with it")->type_name("MODEL");
  c->add_option("--types", o->types,
                "types to compress it to, as `pith quantize` names them, by commas (default: "
                "w8,w6,w4,w3 where no FILES are named)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST");
  o->text.add_to(*c);
  c->add_option("--method", o->method, "how the types are made (default: rtn)");
  c->add_option("--calib", o->calibration, "text to calibrate on, as pith quantize takes it")
      ->type_name("FILE[=WEIGHT]");
  c->add_option("--format", o->format,
                "table, md, csv, json or html (default: by the name of --output, else table)")
      ->check(CLI::IsMember({"table", "md", "csv", "json", "html"}));
  c->add_option("-o,--output", o->output, "write the table to this file")->type_name("FILE");
  c->add_option("--keep", o->keep, "keep the compressed files in this folder, as TYPE.pith")
      ->type_name("FOLDER");
  c->add_flag("--no-speed", o->no_speed, "do not measure tokens per second");
  o->ExecutorOptions::add_to(*c);
  o->Common::add_to(*c);
  c->callback([o] { compare(*o); });
}

}  // namespace pith::tools
