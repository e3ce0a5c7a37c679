// The input is a model folder: files behind each other, each with its number in the table below (a
// byte) and its size (four bytes). What opens is loaded, answers one token, and its tokenizer takes
// a text apart and puts it together again; all else is an Error. A model has few numbers here,
// since the input has: sizes in the configuration that no tensor backs are refused before memory is
// taken.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"

namespace {

using namespace pith;

constexpr const char* kNames[] = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "tokenizer.model",
    "chat_template.jinja",
    "model.gguf",
    "model.safetensors.index.json",
    "1.safetensors",
    "2.safetensors",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.bin",
};
constexpr size_t kGguf = 7, kLlama2c = 13;

// Empties the folder and fills it; returns the path to open.
std::string write_folder(const std::string& folder, std::string_view input) {
  for (const char* name : kNames) remove_file(join_path(folder, name));
  std::string path = folder;
  while (input.size() >= 5) {
    const size_t which = static_cast<uint8_t>(input[0]) % std::size(kNames);
    uint32_t size;
    std::memcpy(&size, input.data() + 1, sizeof size);
    input.remove_prefix(5);
    const std::string_view content = input.substr(0, size);
    input.remove_prefix(content.size());
    const std::string file = join_path(folder, kNames[which]);
    // Plain writes: a NewFile waits for the disk.
    remove_file(file);
    File::create(file).write(0, as_bytes(content));
    if (which == kGguf || which == kLlama2c) path = file;
  }
  return path;
}

void use(const std::string& path) {
  const auto source = open_model(path);
  for (const std::string& note : source->notes()) {
    if (note.find('\n') != note.npos || note.find('\x1b') != note.npos) std::abort();
  }
  if (!source->tokenizer().empty()) {
    const auto tokenizer = load_tokenizer(*source);
    const auto ids = tokenizer->encode("Hello wörld <s> 12", {});
    tokenizer->decode(ids);
  }
  constexpr uint64_t kLargest = 1 << 20;
  const auto& spec = source->spec();
  if (source->tensor_bytes() > kLargest || spec.vocab() * spec.hidden() > kLargest) return;
  window_logits(*make_cpu_executor(), load_model(*source), {{0}, 0});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string folder = [] {
    std::string name =
        (std::filesystem::temp_directory_path() / "model_folder_fuzz.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    return name;
  }();
  static const int registered = std::atexit([] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  });
  if (registered != 0) std::abort();
  try {
    use(write_folder(folder, {reinterpret_cast<const char*>(data), size}));
  } catch (const Error& e) {
    // Files may not speak to the terminal through a message.
    if (std::string_view(e.what()).find('\x1b') != std::string_view::npos) std::abort();
  }
  return 0;
}
