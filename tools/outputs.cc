#include "tools/outputs.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/file.h"

namespace pith::tools {
namespace {

bool is_read_from(const std::string& name) {
  constexpr const char* kNames[] = {"config.json",
                                    "generation_config.json",
                                    "tokenizer.json",
                                    "vocab.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "chat_template.json",
                                    "preprocessor_config.json",
                                    "params.json",
                                    "merges.txt",
                                    "vocab.txt",
                                    "quantize_config.json"};
  constexpr const char* kEndings[] = {".safetensors", ".index.json", ".gguf",     ".model",
                                      ".bin",         ".jinja",      ".tiktoken", ".py"};
  return std::ranges::find(kNames, name) != std::end(kNames) ||
         std::ranges::any_of(kEndings, [&](const char* e) { return name.ends_with(e); });
}

}  // namespace

void require_not_of_model(const std::string& output, const std::string& model,
                          const std::string& tokenizer) {
  if (output.empty() || output == "-" || !file_exists(output)) return;
  const auto refuse = [&] {
    fail(ErrorKind::kUsage, "{}: belongs to the model that is read; choose another output", output);
  };
  if (!tokenizer.empty() && same_file(output, tokenizer)) refuse();
  if (!is_folder(model)) {
    if (same_file(output, model)) refuse();
    if (!model.ends_with(".safetensors")) return;
  }
  const std::string folder = is_folder(model) ? model : folder_of(model);
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (is_read_from(it->path().filename().string()) && same_file(it->path().string(), output))
      refuse();
  }
}

}  // namespace pith::tools
