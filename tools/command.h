// The subcommands of the program. Each file adds one to the command line; its callback does the
// work and throws pith::Error.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/json.h"
#include "runtime/executor.h"

namespace pith::tools {

void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_eval(CLI::App& app);
void add_compare(CLI::App& app);
void add_run(CLI::App& app);
void add_chat(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_bench(CLI::App& app);
void add_verify(CLI::App& app);
void add_devices(CLI::App& app);

// Runs the program; the exit code.
int run(int argc, const char* const* argv);

// Options that most commands share.
struct Common {
  int threads = 0;
  std::string json;  // "-": standard output
  bool quiet = false;

  void add_to(CLI::App& command);
  void apply() const;                    // threads; Error(kIo) where --json could not be written
  void write_json(const Json& j) const;  // where asked for
  bool prints() const { return json != "-"; }  // whether standard output is for people
};

// Of --kv, for commands that generate and for those that evaluate.
inline constexpr const char* kCacheHelp =
    "numbers of the key and value cache: f32 f16 bf16 int8 fp8 int4, or k:TYPE,v:TYPE "
    "(default: f16)";

struct ModelOptions {
  std::string model, tokenizer;
  bool no_verify = false;

  CLI::Option* add_to(CLI::App& command, const char* positional, const char* what);
};

// Of commands that run a model.
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
