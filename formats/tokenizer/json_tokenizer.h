// The parts of tokenizer.json, each made from its JSON object. What is not known is
// Error(kUnsupported) that names it; what is malformed is Error(kCorrupt). `file` begins every
// message.
#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "formats/tokenizer/decoder.h"
#include "formats/tokenizer/model.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/post_processor.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

// j is null, or an object; null makes nullptr.
NormalizerPtr normalizer_from_json(const Json& j, const std::string& file);
PreTokenizerPtr pre_tokenizer_from_json(const Json& j, const std::string& file);
DecoderPtr decoder_from_json(const Json& j, const std::string& file);
// Ids are checked to be below `ids`.
PostProcessor post_processor_from_json(const Json& j, int32_t ids, const std::string& file);

// "BPE", "Unigram", "WordPiece" or "WordLevel"; older files leave the type out.
std::string model_type_from_json(const Json& model, const std::string& file);
Vocabulary vocabulary_from_json(const Json& model, const std::string& file);
std::unique_ptr<TokenModel> model_from_json(const Json& model,
                                            std::shared_ptr<const Vocabulary> vocabulary,
                                            const std::string& file);

// {"String": "..."} or {"Regex": "..."} or a plain string.
struct JsonPattern {
  bool regex = false;
  std::string text;
};
JsonPattern pattern_from_json(const Json& owner, const std::string& file);
// The parts of a Sequence, an array at `key`.
const Json& sequence_parts(const Json& j, const char* key, const std::string& file);
std::string component_type(const Json& j, const std::string& file);
// The same for a part at any depth of nesting; takes one from `left`, the parts still allowed.
inline constexpr int kMaxComponents = 300;
std::string component_type(const Json& j, const std::string& file, int& left);

}  // namespace pith
