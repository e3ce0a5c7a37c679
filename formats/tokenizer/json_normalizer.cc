#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/json_tokenizer.h"

namespace pith {

std::string component_type(const Json& j, const std::string& file) {
  if (!j.is_object())
    fail(ErrorKind::kCorrupt, "{}: a component is {} instead of an object", file, j.type_name());
  return json_string(j, "type", file);
}

std::string component_type(const Json& j, const std::string& file, int& left) {
  if (--left < 0) {
    fail(ErrorKind::kCorrupt, "{}: a sequence has more than {} parts in all", file, kMaxComponents);
  }
  return component_type(j, file);
}

const Json& sequence_parts(const Json& j, const char* key, const std::string& file) {
  const Json& parts = json_member(j, key, file);
  if (!parts.is_array()) fail(ErrorKind::kCorrupt, "{}: \"{}\" should be an array", file, key);
  if (parts.size() > 256)
    fail(ErrorKind::kCorrupt, "{}: \"{}\" has {} parts", file, key, parts.size());
  return parts;
}

JsonPattern pattern_from_json(const Json& owner, const std::string& file) {
  const Json& p = json_member(owner, "pattern", file);
  // An empty text matches between all characters, as the empty expression does.
  const auto literal = [](std::string text) { return JsonPattern{text.empty(), std::move(text)}; };
  if (p.is_string()) return literal(p.get<std::string>());
  if (json_find(p, "String") != nullptr) return literal(json_string(p, "String", file));
  return {true, json_string(p, "Regex", file)};
}

namespace {

NormalizerPtr normalizer_of(const Json& j, const std::string& file, int& left) {
  if (j.is_null()) return nullptr;
  const std::string type = component_type(j, file, left);
  if (type == "Sequence") {
    std::vector<NormalizerPtr> parts;
    for (const Json& part : sequence_parts(j, "normalizers", file)) {
      if (auto made = normalizer_of(part, file, left)) parts.push_back(std::move(made));
    }
    return normalize_sequence(std::move(parts));
  }
  if (type == "NFC") return normalize_form(NormalForm::kNfc);
  if (type == "NFD") return normalize_form(NormalForm::kNfd);
  if (type == "NFKC") return normalize_form(NormalForm::kNfkc);
  if (type == "NFKD") return normalize_form(NormalForm::kNfkd);
  if (type == "Lowercase") return normalize_lowercase();
  if (type == "StripAccents") return normalize_strip_accents();
  if (type == "Nmt") return normalize_nmt();
  if (type == "ByteLevel") return normalize_byte_level();
  if (type == "Prepend") return normalize_prepend(json_string(j, "prepend", file));
  if (type == "Strip" || type == "StripNormalizer") {
    return normalize_strip(json_bool(j, "strip_left", file, true),
                           json_bool(j, "strip_right", file, true));
  }
  if (type == "Replace") {
    const JsonPattern pattern = pattern_from_json(j, file);
    const std::string content = json_string(j, "content", file);
    if (pattern.regex) return normalize_replace(Regex(pattern.text, file), content);
    return normalize_replace(pattern.text, content);
  }
  if (type == "Precompiled") {
    const std::string map = json_string(j, "precompiled_charsmap", file, "");
    return normalize_charsmap(Charsmap(decode_base64(map, file + ": precompiled_charsmap"), file));
  }
  if (type == "BertNormalizer") {
    BertCleaning options;
    options.clean_text = json_bool(j, "clean_text", file, true);
    options.handle_chinese = json_bool(j, "handle_chinese_chars", file, true);
    options.lowercase = json_bool(j, "lowercase", file, true);
    options.strip_accents = json_bool(j, "strip_accents", file, options.lowercase);
    return normalize_bert(options);
  }
  fail(ErrorKind::kUnsupported, "{}: normalizer {} is not supported", file, printable(type));
}

}  // namespace

NormalizerPtr normalizer_from_json(const Json& j, const std::string& file) {
  int left = kMaxComponents;
  return normalizer_of(j, file, left);
}

}  // namespace pith
