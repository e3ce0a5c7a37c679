#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/json_tokenizer.h"

namespace pith {
namespace {

SplitBehavior behavior_from_json(const Json& j, const std::string& file) {
  const std::string name = json_string(j, "behavior", file, "Isolated");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail(ErrorKind::kUnsupported, "{}: split behavior {} is not supported", file, printable(name));
}

PreTokenizerPtr metaspace_from_json(const Json& j, const std::string& file) {
  const std::string scheme = json_string(
      j, "prepend_scheme", file, json_bool(j, "add_prefix_space", file, true) ? "always" : "never");
  const std::string replacement = json_string(j, "replacement", file, std::string(kMetaspace));
  const bool split = json_bool(j, "split", file, true);
  if (scheme == "always") return split_metaspace(replacement, PrependScheme::kAlways, split);
  if (scheme == "first") return split_metaspace(replacement, PrependScheme::kFirst, split);
  if (scheme == "never") return split_metaspace(replacement, PrependScheme::kNever, split);
  fail(ErrorKind::kUnsupported, "{}: prepend_scheme {} is not supported", file, printable(scheme));
}

PreTokenizerPtr pre_tokenizer_of(const Json& j, const std::string& file, int& left) {
  if (j.is_null()) return nullptr;
  const std::string type = component_type(j, file, left);
  if (type == "Sequence") {
    std::vector<PreTokenizerPtr> parts;
    for (const Json& part : sequence_parts(j, "pretokenizers", file)) {
      if (auto made = pre_tokenizer_of(part, file, left)) parts.push_back(std::move(made));
    }
    return split_sequence(std::move(parts));
  }
  if (type == "ByteLevel") {
    return split_byte_level(json_bool(j, "add_prefix_space", file, true),
                            json_bool(j, "use_regex", file, true), file);
  }
  if (type == "Split") {
    const JsonPattern pattern = pattern_from_json(j, file);
    const SplitBehavior behavior = behavior_from_json(j, file);
    const bool invert = json_bool(j, "invert", file, false);
    if (pattern.regex) return split_regex(Regex(pattern.text, file), behavior, invert);
    return split_text(pattern.text, behavior, invert);
  }
  if (type == "Metaspace") return metaspace_from_json(j, file);
  if (type == "Whitespace") return split_whitespace();
  if (type == "WhitespaceSplit") return split_characters(is_white_space, SplitBehavior::kRemoved);
  if (type == "BertPreTokenizer") return split_bert();
  if (type == "Punctuation") return split_characters(is_punctuation, behavior_from_json(j, file));
  if (type == "Digits") {
    const bool each = json_bool(j, "individual_digits", file, false);
    return split_characters(is_numeric,
                            each ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  }
  if (type == "CharDelimiterSplit") {
    return split_text(json_string(j, "delimiter", file), SplitBehavior::kRemoved, false);
  }
  fail(ErrorKind::kUnsupported, "{}: pre-tokenizer {} is not supported", file, printable(type));
}

}  // namespace

PreTokenizerPtr pre_tokenizer_from_json(const Json& j, const std::string& file) {
  int left = kMaxComponents;
  return pre_tokenizer_of(j, file, left);
}

}  // namespace pith
