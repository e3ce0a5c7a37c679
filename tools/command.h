// The subcommands of the program. Each file adds one to the command line; its callback does the
// work and throws pith::Error.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "core/json.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/backends.h"
#include "runtime/forward/executor.h"
#include "runtime/model/source.h"

namespace pith::tools {

void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_compress(CLI::App& app);
void add_prune(CLI::App& app);
void add_factorize(CLI::App& app);
void add_eval(CLI::App& app);
void add_compare(CLI::App& app);
void add_run(CLI::App& app);
void add_chat(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_bench(CLI::App& app);
void add_verify(CLI::App& app);
void add_devices(CLI::App& app);

// Adds all of them, and the rules that hold for every option (arguments.h).
void add_commands(CLI::App& app);

// Whether a file to write is standard output, by whatever name.
bool is_standard_output(const std::string& path);

// Checks a file that the command will write besides its result, before the work. Error(kUsage)
// where another argument names the same file, a model that the file belongs to, or an output whose
// work folder it lies in; Error(kIo) where it cannot be written. Nothing for "" and "-".
void check_side_file(const std::string& path);
// Error(kUsage) where it is an output that no argument names, or in the work folder of that.
void require_not_output(const std::string& path, const std::string& output);

// Runs the program; the exit code.
int run(int argc, const char* const* argv);

// Options that most commands share.
struct Common {
  int threads = 0;
  std::string json;  // "-": standard output
  bool quiet = false;

  void add_to(CLI::App& command);
  void apply() const;             // threads; Error(kIo) where the JSON cannot be written
  void write_json(Json j) const;  // where asked for, with the program, its arguments and time
  bool prints() const;            // whether standard output is free for text, not JSON
};

// JSON that is safe to print: invalid UTF-8 replaced, control characters escaped.
std::string json_text(const Json& j, int indent);

// The help of --kv, for commands that generate.
inline constexpr const char* kCacheHelp =
    "data type of the KV cache: f32 f16 bf16 int8 fp8 int4, or k:TYPE,v:TYPE (default: f16)";

// Groups of options in the help, as several commands have them.
inline constexpr const char* kGeneralGroup = "General";
inline constexpr const char* kModelGroup = "Model";
inline constexpr const char* kDeviceGroup = "Where and how it computes";

struct ModelOptions {
  std::string model, tokenizer;
  bool no_verify = false;

  CLI::Option* add_to(CLI::App& command, const char* positional, const char* what);
};
inline constexpr const char* kModelHelp =
    "a Hugging Face folder, a GGUF file, a llama2.c file or a .pith file";

// Opens the model, and warns of tolerated and ignored parts of its files. Error(kIo) with a remedy
// where `model` looks like a name on a hub.
std::unique_ptr<ModelSource> open_model_for(const ModelOptions& options, bool verify = true);
std::unique_ptr<Tokenizer> load_tokenizer_for(const ModelSource& source);
void warn_of_fallbacks(
    const Executor& executor);  // encodings that were multiplied without a kernel

// Options of commands that run a model.
struct ExecutorOptions {
  bool exact_inputs = false;
  std::string device = "cpu";
  int64_t gpu_layers = -1;
  bool batch_invariant = false;

  void add_to(CLI::App& command);
  ExecutorChoice executor() const;  // Error(kUsage) for --gpu-layers without a GPU
};
// What a model takes of a GPU's memory, to standard error; nothing where there is no such memory.
void print_memory(const MemoryPlan& plan, bool quiet);

}  // namespace pith::tools
