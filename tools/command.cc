#include "tools/command.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <filesystem>
#include <new>
#include <system_error>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "runtime/backends.h"
#include "runtime/compress/work_folder.h"
#include "runtime/cpu/kernels.h"
#include "tools/arguments.h"
#include "tools/help.h"
#include "tools/interrupt.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr int kSchema = 1;  // of the JSON of write_json: raised where a key changes its meaning
constexpr int kReaderGoneCode = 141;

// The facts about this run that go into its JSON.
struct Run {
  std::vector<std::string> arguments;
  bool wrote_json = false;
  std::string refused;  // a file that the error must not be written to either
};
Run& this_run() {
  static Run r;
  return r;
}

}  // namespace

bool is_standard_output(const std::string& path) {
  if (path.empty() || path == "-") return !path.empty();
  try {
    return resolve_output(path).descriptor == 1;
  } catch (const Error&) {  // no file to write
    return false;
  }
}

namespace {

std::string time_now() {
  const time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, ::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void write_report(const std::string& to, Json j) {
  this_run().wrote_json = true;
  j["program"] = {{"name", "pith"},    {"version", kVersion}, {"commit", kCommit},
                  {"schema", kSchema}, {"time", time_now()},  {"arguments", this_run().arguments}};
  const std::string text = json_text(j, 2) + "\n";
  if (is_standard_output(to)) {
    print_raw(text);
    flush_out();
  } else {
    write_file(to, std::as_bytes(std::span(text)), interrupt());
  }
}

}  // namespace

std::string json_text(const Json& j, int indent) {
  const std::string text = j.dump(indent, ' ', false, Json::error_handler_t::replace);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto u = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (u == 0x7f) {
      out += "\\u007f";
    } else if (u == 0xc2 && next >= 0x80 && next < 0xa0) {
      out += fmt::format("\\u00{:02x}", next);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

void Common::add_to(CLI::App& command) {
  command
      .add_option("-t,--threads", threads,
                  "threads (default: all that this process may use, by affinity and cgroup)")
      ->check(in_range(1, 1024))
      ->group(kGeneralGroup);
  command
      .add_option("--json", json,
                  "write the result, or the error, as JSON to this file; - is standard output")
      ->type_name("FILE")
      ->group(kGeneralGroup);
  command.add_flag("-q,--quiet", quiet, "only results, warnings and errors")->group(kGeneralGroup);
}

namespace {

// Without links, "." and ".."; the file need not exist.
std::filesystem::path canonical(const std::string& path) {
  std::error_code error;
  auto out = std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error);
  return error ? std::filesystem::path(path) : out;
}

bool is_in(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto [end, unused] = std::ranges::mismatch(folder, path);
  return end == folder.end();
}

// Against every other argument, whatever it is: none of them is another name of this file, a model
// that it belongs to, or an output whose work folder it lies in.
void require_not_named_elsewhere(const std::string& path) {
  if (path.empty() || is_standard_output(path)) return;
  const auto here = canonical(path);
  int times = 0;
  for (std::string word : this_run().arguments) {
    if (const size_t eq = word.find('='); word.starts_with("--") && eq != std::string::npos)
      word.erase(0, eq + 1);
    if (word.empty() || word.size() > PATH_MAX) continue;
    const auto there = canonical(word);
    times += there == here;
    if (is_in(here, WorkFolder::path_for(there.string()))) {
      fail(ErrorKind::kUsage, "{}: pith keeps its work on {} there; choose another output", path,
           word);
    }
    if (there == here || !file_exists(word)) continue;
    if (same_file(word, path))
      fail(ErrorKind::kUsage, "{}: {} is the same file; choose another output", path, word);
    require_not_of_model(path, word);
  }
  if (times > 1)
    fail(ErrorKind::kUsage, "{}: is the output as well, or another file of this command", path);
}

}  // namespace

void require_not_output(const std::string& path, const std::string& output) {
  if (path.empty() || is_standard_output(path)) return;
  const auto here = canonical(path), there = canonical(output);
  if (here != there && !is_in(here, WorkFolder::path_for(there.string()))) return;
  this_run().refused = path;
  fail(ErrorKind::kUsage, "{}: is an output of this command as well, or in its work folder", path);
}

void check_side_file(const std::string& path) {
  if (path.empty() || is_standard_output(path)) return;
  require_not_named_elsewhere(path);
  check_writable(path);
}

void Common::apply() const {
  cpu_kernels();          // refuses a bad PITH_CPU before any work
  check_side_file(json);  // before the work, not after it
  set_threads(threads);
  if (threads > thread_count())
    warn(fmt::format("only {} of {} threads could be started", thread_count(), threads));
}

bool Common::prints() const { return !is_standard_output(json); }

void Common::write_json(Json j) const {
  if (!json.empty()) write_report(json, std::move(j));
}

CLI::Option* ModelOptions::add_to(CLI::App& command, const char* positional, const char* what) {
  auto* option = command.add_option(positional, model, what)->required()->type_name("MODEL");
  command
      .add_option("--tokenizer", tokenizer,
                  "tokenizer file (default: the one in the model or beside it)")
      ->type_name("FILE")
      ->group(kModelGroup);
  command
      .add_flag("--no-verify", no_verify,
                "do not check the checksums of a packed file while loading")
      ->group(kModelGroup);
  return option;
}

std::unique_ptr<ModelSource> open_model_for(const ModelOptions& options, bool verify) {
  const std::string& path = options.model;
  const size_t slash = path.find('/');
  const bool looks_like_a_hub_name = slash != std::string::npos && slash > 0 &&
                                     path.find('/', slash + 1) == std::string::npos &&
                                     slash + 1 < path.size() && path[0] != '.' && path[0] != '~';
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
    if (looks_like_a_hub_name && !is_folder(path.substr(0, slash))) {
      fail(ErrorKind::kIo,
           "{0} is no file or folder here. pith does not download; try: huggingface-cli download "
           "{0} --local-dir {1}",
           one_line(path), one_line(path.substr(slash + 1)));
    }
    fail(ErrorKind::kIo, "{}: there is no such file or folder", one_line(path));
  }
  if ((path == "config.json" || path.ends_with("/config.json")) && !is_folder(path)) {
    fail(ErrorKind::kUsage, "{}: a file of a model; name its folder: {}", one_line(path),
         one_line(folder_of(path)));
  }
  auto source = open_model(path, options.tokenizer, verify && !options.no_verify);
  for (const auto& note : source->notes()) warn(note);
  return source;
}

std::unique_ptr<Tokenizer> load_tokenizer_for(const ModelSource& source) {
  std::vector<std::string> notes;
  auto tokenizer = load_tokenizer(source, &notes);
  for (const auto& note : notes) warn(note);
  return tokenizer;
}

void warn_of_fallbacks(const Executor& executor) {
  for (const auto& name : executor.fallbacks()) {
    warn(fmt::format(
        "no kernel for {}: it is decoded and multiplied as f32, which is slow; pith quantize "
        "makes a file of a faster type",
        name));
  }
}

void ExecutorOptions::add_to(CLI::App& command) {
  command
      .add_flag("--exact-inputs", exact_inputs,
                "keep activations in f32 (default: int8 in blocks of 32 for integer weights, "
                "several times as fast; small models can answer differently)")
      ->group(kDeviceGroup);
  command.add_option("--device", device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->group(kDeviceGroup);
  command
      .add_option("--gpu-layers,--n-gpu-layers", gpu_layers,
                  "with --device cuda: only the last so many layers and the head on the GPU, for "
                  "models that do not fit (default: all)")
      ->check(in_range(0, 1 << 20))
      ->group(kDeviceGroup);
  command
      .add_flag("--batch-invariant", batch_invariant,
                "with --device cuda: the same bits for a token whatever is in its batch and "
                "however its prompt is cut; long prompts are slower")
      ->group(kDeviceGroup);
}

ExecutorChoice ExecutorOptions::executor() const {
  const bool cuda = device == "cuda";
  if (gpu_layers >= 0 && !cuda) fail(ErrorKind::kUsage, "--gpu-layers goes with --device cuda");
  if (batch_invariant && !cuda)
    fail(ErrorKind::kUsage, "--batch-invariant goes with --device cuda");
  return {cuda, exact_inputs ? CpuInputs::kF32 : CpuInputs::kInt8, gpu_layers, batch_invariant};
}

void print_memory(const MemoryPlan& plan, bool quiet) {
  if (quiet || plan.available == 0) return;
  tell("GPU memory: {} of weights, {} of KV cache, {} of workspace; {} free\n",
       human_bytes(plan.weights), human_bytes(plan.cache), human_bytes(plan.activations),
       human_bytes(plan.available));
}

void add_commands(CLI::App& app) {
  app.require_subcommand(1);
  app.option_defaults()->always_capture_default();
  app.add_flag_callback(
      "--version", [] {}, "version, commit, compiler, instruction level, CUDA");
  add_inspect(app);
  add_quantize(app);
  add_prune(app);
  add_factorize(app);
  add_compress(app);
  add_eval(app);
  add_compare(app);
  add_run(app);
  add_chat(app);
  add_tokenize(app);
  add_bench(app);
  add_verify(app);
  add_devices(app);
  set_rules(app);
}

namespace {

// `pith help eval kl` is `pith eval kl --help`, `pith version` is `pith --version`.
std::vector<std::string> without_verbs(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  if (arguments[0] == "help") {
    while (!arguments.empty() && arguments[0] == "help") arguments.erase(arguments.begin());
    arguments.push_back("--help");
  } else if (arguments[0] == "version" && arguments.size() == 1) {
    arguments[0] = "--version";
  }
  return arguments;
}

// Reports an error on standard error and, where --json was given and nothing was written yet, as
// JSON.
int report(const Words& words, const std::string& who, const char* kind, int code,
           const std::string& message) {
  tell("{}: {}\n", who, message);
  if (words.json.empty() || this_run().wrote_json || words.json == this_run().refused) return code;
  try {
    require_not_named_elsewhere(words.json);
    write_report(words.json,
                 {{"error", {{"kind", kind}, {"message", message}, {"exit_code", code}}}});
  } catch (const Error& e) {
    const std::string why = one_line(e.what());
    if (why != message) tell("{}: {}\n", who, why);  // the file may be that error
  } catch (const ReaderGone&) {
  }
  return code;
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app{"compress language models, measure what is left of them, run them", "pith"};
  add_commands(app);
  Words words{&app, {}, false, false, {}};
  this_run().arguments.assign(argv + std::min(argc, 1), argv + argc);
  bool started = false;  // whether the words were understood
  const auto usage_name = [&] { return started ? "pith" : command_name(*words.command); };
  const auto json_of_words = [&] {  // even where the words before it were wrong
    const auto& a = this_run().arguments;
    for (size_t i = 0; i < a.size() && words.json.empty(); ++i) {
      if (a[i] == "--json" && i + 1 < a.size()) words.json = a[i + 1];
      if (a[i].starts_with("--json=")) words.json = a[i].substr(7);
    }
  };
  const auto failed = [&](const std::string& who, ErrorKind kind, std::string message) {
    if (started) message = one_line(message);  // names in it may have any characters
    const bool cancelled = kind == ErrorKind::kCancelled && interrupt().reason() != 0;
    if (kind == ErrorKind::kUsage) json_of_words();
    return report(words, who, kind_name(kind),
                  cancelled ? 128 + interrupt().reason() : exit_code(kind), message);
  };
  try {
    read_words(app, without_verbs(this_run().arguments), &words);
    started = true;
    require_output();
    if (words.help || words.version) {
      print_out(words.help ? help_text(*words.command, columns(1)) : version_text());
    } else {
      app.parse(std::vector<std::string>(words.words.rbegin(), words.words.rend()));
    }
    flush_out();
    return 0;
  } catch (const CLI::ParseError& e) {
    return failed(command_name(*words.command), ErrorKind::kUsage, plain_message(e.what()));
  } catch (const Error& e) {
    return failed(usage_name(), e.kind(), e.what());
  } catch (const ReaderGone&) {
    return kReaderGoneCode;
  } catch (const std::bad_alloc&) {
    return failed("pith", ErrorKind::kMemory, "out of memory");
  } catch (const std::system_error& e) {  // of the standard library: folders, threads
    return failed("pith", ErrorKind::kIo, e.what());
  } catch (const std::exception& e) {
    return report(words, "pith", "internal", 1, fmt::format("internal error: {}", e.what()));
  }
}

}  // namespace pith::tools
