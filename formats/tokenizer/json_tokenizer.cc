#include "formats/tokenizer/json_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "formats/tokenizer/pipeline.h"

namespace pith {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;

std::vector<AddedToken> added_from_json(const Json& root, const std::string& file) {
  std::vector<AddedToken> made;
  const Json* list = json_find(root, "added_tokens");
  if (list == nullptr) return made;
  if (!list->is_array()) fail(ErrorKind::kCorrupt, "{}: \"added_tokens\" should be an array", file);
  if (list->size() > AddedTokens::kMax) {
    fail(ErrorKind::kCorrupt, "{}: {} added tokens, more than {}", file, list->size(),
         AddedTokens::kMax);
  }
  for (const Json& j : *list) {
    AddedToken token;
    token.text = json_string(j, "content", file);
    const uint64_t id = json_uint(j, "id", file);
    if (id >= Vocabulary::kMaxIds)
      fail(ErrorKind::kCorrupt, "{}: the id {} of \"{}\" is too large", file, id, token.text);
    if (token.text.size() > Vocabulary::kMaxTokenBytes) {
      fail(ErrorKind::kCorrupt, "{}: added token {} has {} bytes", file, id, token.text.size());
    }
    token.id = static_cast<int32_t>(id);
    token.special = json_bool(j, "special", file, false);
    token.single_word = json_bool(j, "single_word", file, false);
    token.lstrip = json_bool(j, "lstrip", file, false);
    token.rstrip = json_bool(j, "rstrip", file, false);
    token.normalized = json_bool(j, "normalized", file, !token.special);
    if (!token.text.empty()) made.push_back(std::move(token));
  }
  return made;
}

// "bos_token": "<s>", or {"content": "<s>", ...}
std::optional<int32_t> named_token(const Json& config, const char* key,
                                   const PipelineParts& parts) {
  const Json* found = json_find(config, key);
  if (found == nullptr) return std::nullopt;
  const std::string name = found->is_string()
                               ? found->get<std::string>()
                               : json_string(*found, "content", "tokenizer_config.json", "");
  for (const auto& token : parts.added) {
    if (token.text == name) return token.id;
  }
  const int32_t id = parts.vocabulary->find(name);
  return id < 0 ? std::nullopt : std::optional(id);
}

// The classes of Llama and Gemma rebuild the post-processor from these two settings.
void apply_config(const Json& config, PipelineParts& parts) {
  static const std::string file = "tokenizer_config.json";
  parts.bos = named_token(config, "bos_token", parts);
  parts.eos = named_token(config, "eos_token", parts);
  const std::string type = json_string(config, "tokenizer_class", file, "");
  const bool rebuilds = type.starts_with("LlamaTokenizer") || type.starts_with("GemmaTokenizer") ||
                        type.starts_with("CodeLlamaTokenizer");
  if (!rebuilds) return;
  auto& [before, after] = parts.post_processor;
  if (parts.bos && json_find(config, "add_bos_token") != nullptr) {
    const bool has = !before.empty() && before.front() == *parts.bos;
    const bool wanted = json_bool(config, "add_bos_token", file);
    if (wanted && !has) before.insert(before.begin(), *parts.bos);
    if (!wanted && has) before.erase(before.begin());
  }
  if (parts.eos && json_find(config, "add_eos_token") != nullptr) {
    const bool has = !after.empty() && after.back() == *parts.eos;
    const bool wanted = json_bool(config, "add_eos_token", file);
    if (wanted && !has) after.push_back(*parts.eos);
    if (!wanted && has) after.pop_back();
  }
}

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view tokenizer_json,
                                               std::string_view tokenizer_config) {
  const std::string file = "tokenizer.json";
  if (tokenizer_json.size() > kMaxFileBytes || tokenizer_config.size() > kMaxFileBytes) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, more than {}", file, tokenizer_json.size(),
         kMaxFileBytes);
  }
  const Json root = parse_json(tokenizer_json, file);
  if (!root.is_object()) fail(ErrorKind::kCorrupt, "{}: should be an object", file);
  const auto member = [&](const char* key) {
    const Json* found = json_find(root, key);
    return found != nullptr ? *found : Json();
  };
  PipelineParts parts;
  parts.file = file;
  parts.added = added_from_json(root, file);
  const Json& model = json_member(root, "model", file);
  auto vocabulary = std::make_shared<Vocabulary>(vocabulary_from_json(model, file));
  int32_t ids = vocabulary->size();
  for (const auto& token : parts.added) {
    ids = std::max(ids, token.id + 1);
    if (token.special && vocabulary->has(token.id)) vocabulary->hide(token.id);
  }
  parts.vocabulary = vocabulary;
  parts.model = model_from_json(model, vocabulary, file);
  parts.normalizer = normalizer_from_json(member("normalizer"), file);
  parts.pre_tokenizer = pre_tokenizer_from_json(member("pre_tokenizer"), file);
  parts.decoder = decoder_from_json(member("decoder"), file);
  parts.post_processor = post_processor_from_json(member("post_processor"), ids, file);
  if (!tokenizer_config.empty()) {
    const Json config = parse_json(tokenizer_config, "tokenizer_config.json");
    if (!config.is_object())
      fail(ErrorKind::kCorrupt, "tokenizer_config.json: should be an object");
    apply_config(config, parts);
  }
  return make_pipeline(std::move(parts));
}

}  // namespace pith
