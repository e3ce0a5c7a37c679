#include "formats/tokenizer/config_tokens.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kMap = "special_tokens_map.json";
constexpr const char* kAdded = "added_tokens.json";
constexpr uint64_t kMaxFileBytes = uint64_t{16} << 20;

constexpr const char* kNamed[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};
constexpr const char* kLists[] = {"additional_special_tokens", "extra_special_tokens"};

Json parse_object(std::string_view text, const char* file) {
  Json j = text.empty() ? Json::object() : parse_json(text, file);
  if (!j.is_object()) fail(ErrorKind::kCorrupt, "{}: should be an object", file);
  return j;
}

// A token is a text, or an object with its text and flags.
std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  return token.is_object() ? json_string(token, "content", kConfig, "") : "";
}

// Every special token that the configuration names, in order.
std::vector<const Json*> named_tokens(const Json& config) {
  std::vector<const Json*> all;
  const auto add = [&](const Json& token) {
    if (!content_of(token).empty()) all.push_back(&token);
  };
  for (const char* key : kNamed) {
    if (const Json* token = json_find(config, key)) add(*token);
  }
  for (const char* key : kLists) {  // a list, or an object of names and tokens
    const Json* list = json_find(config, key);
    if (list == nullptr || !list->is_structured()) continue;
    for (const Json& token : *list) add(token);
  }
  for (const auto& [key, token] : config.items()) {  // "image_token", "boi_token", ...
    const bool known = std::ranges::find(kNamed, key) != std::end(kNamed);
    if (!known && key.ends_with("_token") && token.is_string()) add(token);
  }
  return all;
}

AddedToken special_from_json(const Json& j) {
  if (j.is_object()) {
    AddedToken token = added_token_from_json(j, kConfig);
    token.special = true;
    token.normalized = json_bool(j, "normalized", kConfig, false);
    return token;
  }
  AddedToken token;
  token.text = j.get<std::string>();
  token.special = true;
  return token;
}

uint64_t id_from_key(const std::string& key) {
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size() || id >= Vocabulary::kMaxIds)
    fail(ErrorKind::kCorrupt, "{}: added_tokens_decoder: {} is not the id of a token", kConfig,
         printable(key));
  return id;
}

class Adder {
 public:
  Adder(ConfigIds ids, Vocabulary& vocabulary, PipelineParts& parts)
      : ids_(ids), vocabulary_(vocabulary), parts_(parts) {
    for (size_t i = 0; i < parts.added.size(); ++i) note(i);
  }

  bool has(const std::string& text) const { return by_text_.contains(text); }

  void add(AddedToken token, std::optional<uint64_t> id, bool named) {
    if (token.text.empty()) return;
    if (token.text.size() > Vocabulary::kMaxTokenBytes)
      fail(ErrorKind::kCorrupt, "{}: a token has {} bytes", kConfig, token.text.size());
    if (ids_ == ConfigIds::kAsGiven) token.normalized = false;  // these match in the text as it is
    const auto known = by_text_.find(token.text);
    if (known != by_text_.end()) {
      AddedToken& old = parts_.added[known->second];
      token.id = old.id;
      if (token == old) return;
      token.special = token.special || named || old.special;
      old = std::move(token);
      hide(old);
      return;
    }
    if (named) token.special = true;
    if (id && ids_ == ConfigIds::kAsGiven) {
      token.id = static_cast<int32_t>(*id);
      drop(token.id);
    } else {
      token.id = id_of_added(vocabulary_, token.text, largest_, kConfig);
    }
    if (parts_.added.size() >= AddedTokens::kMax || token.id >= int32_t{Vocabulary::kMaxIds})
      fail(ErrorKind::kCorrupt, "{}: more than {} added tokens", kConfig, AddedTokens::kMax);
    parts_.added.push_back(std::move(token));
    note(parts_.added.size() - 1);
    hide(parts_.added.back());
  }

 private:
  void note(size_t i) {
    by_text_[parts_.added[i].text] = i;
    by_id_[parts_.added[i].id] = i;
    largest_ = std::max(largest_, parts_.added[i].id);
  }
  // The configuration renames another added token with this id.
  void drop(int32_t id) {
    const auto it = by_id_.find(id);
    if (it == by_id_.end()) return;
    AddedToken& old = parts_.added[it->second];
    by_text_.erase(old.text);
    old.text.clear();
  }
  void hide(const AddedToken& token) {
    if (!token.special) return;
    if (vocabulary_.has(token.id)) vocabulary_.hide(token.id);
    if (const int32_t id = vocabulary_.find(token.text); id >= 0) vocabulary_.hide(id);
  }

  const ConfigIds ids_;
  Vocabulary& vocabulary_;
  PipelineParts& parts_;
  int32_t largest_ = -1;
  std::map<std::string, size_t, std::less<>> by_text_;
  std::map<int32_t, size_t> by_id_;
};

}  // namespace

AddedToken added_token_from_json(const Json& j, const std::string& file) {
  AddedToken token;
  token.text = json_string(j, "content", file);
  token.special = json_bool(j, "special", file, false);
  token.single_word = json_bool(j, "single_word", file, false);
  token.lstrip = json_bool(j, "lstrip", file, false);
  token.rstrip = json_bool(j, "rstrip", file, false);
  token.normalized = json_bool(j, "normalized", file, !token.special);
  return token;
}

std::string join_tokenizer_config(const std::string& tokenizer_config,
                                  const std::string& special_tokens_map,
                                  const std::string& added_tokens) {
  if (special_tokens_map.empty() && added_tokens.empty()) return tokenizer_config;
  Json config = parse_object(tokenizer_config, kConfig);
  if (json_find(config, "added_tokens_decoder") != nullptr) return tokenizer_config;
  const Json map = parse_object(special_tokens_map, kMap);
  for (const auto& [key, value] : map.items()) {
    if (!value.is_null()) config[key] = value;
  }
  if (!added_tokens.empty()) {
    std::vector<std::string> special;
    for (const Json* token : named_tokens(config)) special.push_back(content_of(*token));
    Json decoder = Json::object();
    const Json added = parse_object(added_tokens, kAdded);
    for (const auto& [text, id] : added.items()) {
      if (!id.is_number_unsigned())
        fail(ErrorKind::kCorrupt, "{}: the id of {} is not a number", kAdded, printable(text));
      const bool is_special = std::ranges::find(special, text) != special.end();
      decoder[std::to_string(id.get<uint64_t>())] = {{"content", text}, {"special", is_special}};
    }
    config["added_tokens_decoder"] = std::move(decoder);
  }
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string read_tokenizer_config(const std::string& folder) {
  const auto read = [&](const char* name) {
    const std::string path = join_path(folder, name);
    return file_exists(path) ? read_text_file(path, kMaxFileBytes) : "";
  };
  return join_tokenizer_config(read(kConfig), read(kMap), read(kAdded));
}

Json parse_tokenizer_config(std::string_view text) { return parse_object(text, kConfig); }

void add_config_tokens(const Json& config, ConfigIds ids, Vocabulary& vocabulary,
                       PipelineParts& parts) {
  std::set<std::string, std::less<>> named;
  for (const Json* token : named_tokens(config)) named.insert(content_of(*token));
  Adder adder(ids, vocabulary, parts);
  if (const Json* decoder = json_find(config, "added_tokens_decoder")) {
    if (!decoder->is_object())
      fail(ErrorKind::kCorrupt, "{}: \"added_tokens_decoder\" should be an object", kConfig);
    std::map<uint64_t, const Json*> by_id;
    for (const auto& [key, token] : decoder->items()) by_id[id_from_key(key)] = &token;
    for (const auto& [id, token] : by_id) {
      AddedToken made = added_token_from_json(*token, kConfig);
      const bool is_named = named.contains(made.text);
      adder.add(std::move(made), id, is_named);
    }
  }
  for (const Json* token : named_tokens(config)) {
    if (!adder.has(content_of(*token))) adder.add(special_from_json(*token), {}, true);
  }
  std::erase_if(parts.added, [](const AddedToken& t) { return t.text.empty(); });
  const auto set_id = [&](const char* key, std::optional<int32_t>& to) {
    const Json* token = json_find(config, key);
    const std::string text = token != nullptr ? content_of(*token) : "";
    for (const auto& t : parts.added) {
      if (!text.empty() && t.text == text) to = t.id;
    }
  };
  set_id("bos_token", parts.bos);
  set_id("eos_token", parts.eos);
}

}  // namespace pith
