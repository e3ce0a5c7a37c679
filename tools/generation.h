// Shared by `pith run` and `pith chat`: the options of generation.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "formats/tokenizer/chat_format.h"
#include "runtime/engine/engine.h"
#include "tools/command.h"
#include "tools/interrupt.h"

namespace pith::tools {

struct GenerationOptions : Common, ModelOptions, ExecutorOptions {
  std::string system, cache, seed = "0";
  RunnerOptions engine{.cancel = interrupt()};
  GenerateOptions generate;
  bool random_seed = false;

  void add_to(CLI::App& command);
  // Applies the options; Error(kUsage) where they do not go together.
  void prepare(const CLI::App& command);
  // The size of the KV cache in tokens; warns where it exceeds the model's context.
  int64_t context_of(const ModelSource& source) const;
};

// A number of the generation, as an option and as /set of the chat has it.
struct Setting {
  const char *names, *help, *group;  // names: "--temp,--temperature"
  double low, high;
  bool above = false;  // low itself is not allowed
  std::variant<int64_t*, double*> value;

  std::string name() const;                      // "temp"
  bool has_name(const std::string& word) const;  // any of them, without dashes
  std::string text() const;                      // its value
  CLI::Validator range() const;
};
std::vector<Setting> settings_of(GenerateOptions& o);

// A whole number; for -1 draws a random one and sets *random. Error(kUsage) for others.
uint64_t parse_seed(const std::string& text, bool* random);

// Error(kUsage) with the remedy where a prompt is longer than the context.
void check_prompt_length(size_t tokens, int64_t context, const ModelSource& source);

Json to_json(const GenerationOptions& o, const GenerateResult& r);

// "33 prompt tokens at 120.1/s, 57 generated at 12.3/s, ended by stop".
std::string statistics(const GenerateResult& r);

// The chat template of a model. Error(kUsage) where it has none.
ChatFormat chat_format_of(const ModelSource& source, const Tokenizer& tokenizer);

}  // namespace pith::tools
