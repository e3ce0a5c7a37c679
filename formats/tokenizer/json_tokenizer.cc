#include "formats/tokenizer/json_tokenizer.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/json_tree.h"
#include "formats/printable.h"
#include "formats/tokenizer/config_tokens.h"
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
    AddedToken token = added_token_from_json(j, file);
    const uint64_t id = json_uint(j, "id", file);
    if (id >= Vocabulary::kMaxIds)
      fail(ErrorKind::kCorrupt, "{}: the id {} of {} is too large", file, id,
           printable(token.text));
    if (token.text.size() > Vocabulary::kMaxTokenBytes) {
      fail(ErrorKind::kCorrupt, "{}: added token {} has {} bytes", file, id, token.text.size());
    }
    token.id = static_cast<int32_t>(id);
    if (!token.text.empty()) made.push_back(std::move(token));
  }
  return made;
}

// Numbers the added tokens as Hugging Face tokenizers do, whatever ids the file gives them. Of
// equal tokens the first counts; it is special where any of them is.
void number_added_tokens(std::vector<AddedToken>& added, Vocabulary& vocabulary,
                         const std::string& file) {
  std::vector<AddedToken> made;
  std::map<std::string, size_t, std::less<>> by_text;
  int32_t largest = -1;
  for (AddedToken& token : added) {
    const auto [known, is_new] = by_text.try_emplace(token.text, made.size());
    if (!is_new) {
      made[known->second].special |= token.special;
      continue;
    }
    token.id = id_of_added(vocabulary, token.text, largest, file);
    largest = std::max(largest, token.id);
    made.push_back(std::move(token));
  }
  for (const auto& token : made) {
    if (token.special && vocabulary.has(token.id)) vocabulary.hide(token.id);
  }
  added = std::move(made);
}

// The classes of Llama and Gemma rebuild the post-processor from these two settings where they are
// there, and so does the class of transformers 5 that has no model's name, from both.
void apply_config(const Json& config, PipelineParts& parts) {
  static const std::string file = "tokenizer_config.json";
  const std::string type = json_string(config, "tokenizer_class", file, "");
  const bool sets_bos = json_find(config, "add_bos_token") != nullptr;
  const bool sets_eos = json_find(config, "add_eos_token") != nullptr;
  const bool all = type == "TokenizersBackend" && (sets_bos || sets_eos);
  const bool rebuilds = all || type.starts_with("LlamaTokenizer") ||
                        type.starts_with("GemmaTokenizer") ||
                        type.starts_with("CodeLlamaTokenizer");
  if (!rebuilds) return;
  auto& [before, after] = parts.post_processor;
  if (all) before = after = {};
  if (parts.bos && sets_bos) {
    const bool has = !before.empty() && before.front() == *parts.bos;
    const bool wanted = json_bool(config, "add_bos_token", file);
    if (wanted && !has) before.insert(before.begin(), *parts.bos);
    if (!wanted && has) before.erase(before.begin());
  }
  if (parts.eos && sets_eos) {
    const bool has = !after.empty() && after.back() == *parts.eos;
    const bool wanted = json_bool(config, "add_eos_token", file);
    if (wanted && !has) after.push_back(*parts.eos);
    if (!wanted && has) after.pop_back();
  }
}

// transformers takes the padding token from here where its own configuration names none, and adds
// it to the special tokens.
void name_padding(const Json& padding, Json& config) {
  const Json* token = json_find(padding, "pad_token");
  if (token != nullptr && token->is_string() && json_find(config, "pad_token") == nullptr)
    config["pad_token"] = *token;
}

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view tokenizer_json,
                                               std::string_view tokenizer_config) {
  const std::string file = "tokenizer.json";
  if (tokenizer_json.size() > kMaxFileBytes || tokenizer_config.size() > kMaxFileBytes) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, more than {}", file, tokenizer_json.size(),
         kMaxFileBytes);
  }
  const JsonTree tree(parse_json(tokenizer_json, file));
  const Json& root = tree.root();
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
  number_added_tokens(parts.added, *vocabulary, file);
  Json config = parse_tokenizer_config(tokenizer_config);
  name_padding(member("padding"), config);
  add_config_tokens(config, ConfigIds::kNext, *vocabulary, parts);
  int32_t ids = vocabulary->size();
  for (const auto& token : parts.added) ids = std::max(ids, token.id + 1);
  parts.vocabulary = vocabulary;
  parts.model = model_from_json(model, vocabulary, file);
  parts.normalizer = normalizer_from_json(member("normalizer"), file);
  parts.pre_tokenizer = pre_tokenizer_from_json(member("pre_tokenizer"), file);
  parts.decoder = decoder_from_json(member("decoder"), file);
  parts.post_processor = post_processor_from_json(member("post_processor"), ids, file);
  apply_config(config, parts);
  return make_pipeline(std::move(parts));
}

}  // namespace pith
