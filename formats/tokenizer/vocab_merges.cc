// Folders of the slow tokenizers of transformers: vocab.json, an object of tokens and ids, and
// merges.txt, a pair a line by rank after a line "#version: ...". The other settings of a
// tokenizer.json come from the tokenizer's class.

#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/config_tokens.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/tokenizer.h"

namespace pith {
namespace {

Json merges_from_text(std::string_view text) {
  Json list = Json::array();
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool version = at == 0 && line.starts_with("#version");
    at = end + 1;
    if (!line.empty() && !version) list.push_back(line);
  }
  return list;
}

}  // namespace

std::string tokenizer_json_of(std::string_view vocab, std::string_view merges,
                              std::string_view tokenizer_config) {
  const Json config = parse_tokenizer_config(tokenizer_config);
  const std::string type = json_string(config, "tokenizer_class", "tokenizer_config.json", "");
  const bool prefix = json_bool(config, "add_prefix_space", "tokenizer_config.json", false);
  Json rest = {{"decoder", {{"type", "ByteLevel"}}}};
  if (type.starts_with("Qwen2") || type.empty()) {
    const Json split = {
        {"type", "Split"},
        {"pattern", {{"Regex", std::string(find_gguf_split("qwen2")->patterns.front())}}},
        {"behavior", "Isolated"}};
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", false}};
    rest["normalizer"] = {{"type", "NFC"}};
    rest["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}};
  } else if (type.starts_with("GPT2Tokenizer")) {
    rest["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", prefix}};
  } else {
    fail(ErrorKind::kUnsupported,
         "vocab.json and merges.txt of a {} are not read; save it once with transformers, which "
         "writes a tokenizer.json",
         printable(type));
  }
  // The vocabulary is put in as it stands: it may have a million members.
  return fmt::format(R"({{"model": {{"type": "BPE", "vocab": {}, "merges": {}}}, {})", vocab,
                     merges_from_text(merges).dump(-1, ' ', false, Json::error_handler_t::replace),
                     rest.dump().substr(1));
}

}  // namespace pith
