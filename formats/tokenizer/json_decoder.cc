#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/json_tokenizer.h"

namespace pith {
namespace {

bool metaspace_prepends(const Json& j, const std::string& file) {
  const bool legacy = json_bool(j, "add_prefix_space", file, true);
  return json_string(j, "prepend_scheme", file, legacy ? "always" : "never") != "never";
}

int32_t id_from_json(const Json& j, int32_t ids, const std::string& file) {
  if (!j.is_number_unsigned() || j.get<uint64_t>() >= static_cast<uint64_t>(ids)) {
    fail(ErrorKind::kCorrupt, "{}: post-processor: {} is not the id of a token", file,
         j.dump().substr(0, 100));
  }
  return j.get<int32_t>();
}

// "sep": ["[SEP]", 102]
int32_t token_from_json(const Json& j, const char* key, int32_t ids, const std::string& file) {
  const Json& pair = json_member(j, key, file);
  if (!pair.is_array() || pair.size() != 2) {
    fail(ErrorKind::kCorrupt, "{}: post-processor: \"{}\" should be a token and its id", file, key);
  }
  return id_from_json(pair[1], ids, file);
}

PostProcessor template_from_json(const Json& j, int32_t ids, const std::string& file) {
  PostProcessor made;
  int texts = 0;
  const Json none = Json::object();
  const Json* tokens = json_find(j, "special_tokens");
  for (const Json& item : sequence_parts(j, "single", file)) {
    if (const Json* text = json_find(item, "Sequence")) {
      ++texts;
      if (json_string(*text, "id", file, "A") != "A")
        fail(ErrorKind::kUnsupported, "{}: a template for one text names a second one", file);
      continue;
    }
    const std::string name = json_string(json_member(item, "SpecialToken", file), "id", file);
    const Json& token = json_member(tokens != nullptr ? *tokens : none, name.c_str(), file);
    for (const Json& id : sequence_parts(token, "ids", file)) {
      (texts == 0 ? made.before : made.after).push_back(id_from_json(id, ids, file));
    }
  }
  if (texts != 1)
    fail(ErrorKind::kUnsupported, "{}: a template with the text {} times is not supported", file,
         texts);
  return made;
}

DecoderPtr decoder_of(const Json& j, const std::string& file, int& left) {
  if (j.is_null()) return nullptr;
  const std::string type = component_type(j, file, left);
  if (type == "Sequence") {
    std::vector<DecoderPtr> parts;
    for (const Json& part : sequence_parts(j, "decoders", file)) {
      if (auto made = decoder_of(part, file, left)) parts.push_back(std::move(made));
    }
    return decode_sequence(std::move(parts));
  }
  if (type == "ByteLevel") return decode_byte_level();
  if (type == "ByteFallback") return decode_byte_fallback();
  if (type == "Fuse") return decode_fuse();
  if (type == "BPEDecoder") return decode_bpe(json_string(j, "suffix", file, "</w>"));
  if (type == "Metaspace") {
    return decode_metaspace(json_string(j, "replacement", file, std::string(kMetaspace)),
                            metaspace_prepends(j, file));
  }
  if (type == "WordPiece") {
    return decode_word_piece(json_string(j, "prefix", file, "##"),
                             json_bool(j, "cleanup", file, true));
  }
  if (type == "Strip") {
    return decode_strip(json_string(j, "content", file, " "), json_uint(j, "start", file, 0),
                        json_uint(j, "stop", file, 0));
  }
  if (type == "Replace") {
    const JsonPattern pattern = pattern_from_json(j, file);
    const std::string content = json_string(j, "content", file);
    if (pattern.regex) return decode_replace(Regex(pattern.text, file), content);
    return decode_replace(pattern.text, content);
  }
  fail(ErrorKind::kUnsupported, "{}: decoder {} is not supported", file, printable(type));
}

}  // namespace

DecoderPtr decoder_from_json(const Json& j, const std::string& file) {
  int left = kMaxComponents;
  return decoder_of(j, file, left);
}

PostProcessor post_processor_from_json(const Json& j, int32_t ids, const std::string& file) {
  if (j.is_null()) return {};
  const std::string type = component_type(j, file);
  if (type == "ByteLevel") return {};  // moves offsets only
  if (type == "TemplateProcessing") return template_from_json(j, ids, file);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return {{token_from_json(j, "cls", ids, file)}, {token_from_json(j, "sep", ids, file)}};
  }
  if (type == "Sequence") {
    PostProcessor all;
    bool apart = false;  // a template leaves the text and its tokens apart, for the next to number
    for (const Json& part : sequence_parts(j, "processors", file)) {
      const PostProcessor outer = post_processor_from_json(part, ids, file);
      const bool adds = !outer.before.empty() || !outer.after.empty();
      if (adds && apart) {
        fail(ErrorKind::kUnsupported,
             "{}: a post-processor that adds tokens to those of a template is not supported", file);
      }
      const std::string kind = component_type(part, file);
      apart |= adds && (kind == "TemplateProcessing" || kind == "Sequence");
      all.before.insert(all.before.begin(), outer.before.begin(), outer.before.end());
      all.after.insert(all.after.end(), outer.after.begin(), outer.after.end());
    }
    return all;
  }
  fail(ErrorKind::kUnsupported, "{}: post-processor {} is not supported", file, printable(type));
}

}  // namespace pith
