#include <cmath>

#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/json_tokenizer.h"
#include "formats/tokenizer/unigram.h"
#include "formats/tokenizer/word_models.h"

namespace pith {
namespace {

// "unk_token": the name of a token, or null.
int32_t unknown_by_name(const Json& model, const Vocabulary& vocabulary, const std::string& file) {
  const std::string name = json_string(model, "unk_token", file, "");
  return name.empty() ? -1 : vocabulary.find(name);
}

// "a b", or ["a", "b"] where tokens hold blanks.
std::pair<std::string, std::string> merge_from_json(const Json& j, const std::string& file) {
  if (j.is_string()) {
    const auto& text = j.get_ref<const std::string&>();
    const size_t blank = text.find(' ');
    if (blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos) {
      return {text.substr(0, blank), text.substr(blank + 1)};
    }
  } else if (j.is_array() && j.size() == 2 && j[0].is_string() && j[1].is_string()) {
    return {j[0].get<std::string>(), j[1].get<std::string>()};
  }
  fail(ErrorKind::kCorrupt, "{}: merge {} is not a pair of tokens", file,
       j.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200));
}

std::unique_ptr<TokenModel> bpe_from_json(const Json& j,
                                          std::shared_ptr<const Vocabulary> vocabulary,
                                          const std::string& file) {
  std::vector<std::pair<std::string, std::string>> merges;
  const Json& list = json_member(j, "merges", file);
  if (!list.is_array()) fail(ErrorKind::kCorrupt, "{}: \"merges\" should be an array", file);
  merges.reserve(list.size());
  for (const Json& merge : list) {
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    merges.push_back(merge_from_json(merge, file));
  }
  BpeOptions options;
  options.unknown = unknown_by_name(j, *vocabulary, file);
  if (options.unknown < 0 && json_find(j, "unk_token") != nullptr)
    options.missing_unknown = printable(json_string(j, "unk_token", file));
  const double dropout = json_number(j, "dropout", file, 0);
  if (dropout != 0) {
    fail(ErrorKind::kUnsupported,
         "{}: model.dropout is {}: every encoding would be another; set it to null", file, dropout);
  }
  options.fuse_unknown = json_bool(j, "fuse_unk", file, false);
  options.byte_fallback = json_bool(j, "byte_fallback", file, false);
  options.ignore_merges = json_bool(j, "ignore_merges", file, false);
  options.continuing_prefix = json_string(j, "continuing_subword_prefix", file, "");
  options.end_of_word_suffix = json_string(j, "end_of_word_suffix", file, "");
  return make_ranked_bpe(std::move(vocabulary), merges, options, file);
}

std::unique_ptr<TokenModel> unigram_from_json(const Json& j,
                                              std::shared_ptr<const Vocabulary> vocabulary,
                                              const std::string& file) {
  const auto n = static_cast<size_t>(vocabulary->size());
  UnigramOptions options;
  options.scores.reserve(n);
  for (const Json& entry : json_member(j, "vocab", file)) {
    if (!entry[1].is_number() || !std::isfinite(entry[1].get<double>())) {
      fail(ErrorKind::kCorrupt, "{}: the score of {} is not a finite number", file,
           printable(entry[0].get<std::string>()));
    }
    options.scores.push_back(entry[1].get<double>());
  }
  options.usable.assign(n, true);
  options.user_defined.assign(n, false);
  options.byte_fallback = json_bool(j, "byte_fallback", file, false);
  if (json_find(j, "unk_id") != nullptr) {
    const uint64_t unknown = json_uint(j, "unk_id", file);
    if (unknown >= n) fail(ErrorKind::kCorrupt, "{}: unk_id {} is not below {}", file, unknown, n);
    options.unknown = static_cast<int32_t>(unknown);
  }
  return make_unigram(std::move(vocabulary), std::move(options), file);
}

std::unique_ptr<TokenModel> word_piece_from_json(const Json& j,
                                                 std::shared_ptr<const Vocabulary> vocabulary,
                                                 const std::string& file) {
  WordPieceOptions options;
  options.unknown = vocabulary->find(json_string(j, "unk_token", file, "[UNK]"));
  options.continuing_prefix = json_string(j, "continuing_subword_prefix", file, "##");
  options.max_characters = json_uint(j, "max_input_chars_per_word", file, 100);
  return make_word_piece(std::move(vocabulary), options, file);
}

}  // namespace

std::string model_type_from_json(const Json& model, const std::string& file) {
  if (!model.is_object()) fail(ErrorKind::kCorrupt, "{}: \"model\" should be an object", file);
  std::string type = json_string(model, "type", file, "");
  if (type.empty()) {  // written before the type was
    if (json_find(model, "merges") != nullptr) {
      type = "BPE";
    } else if (json_find(model, "max_input_chars_per_word") != nullptr) {
      type = "WordPiece";
    } else {
      type = json_member(model, "vocab", file).is_array() ? "Unigram" : "WordLevel";
    }
  }
  if (type != "BPE" && type != "Unigram" && type != "WordPiece" && type != "WordLevel") {
    fail(ErrorKind::kUnsupported, "{}: model {} is not supported", file, printable(type));
  }
  return type;
}

Vocabulary vocabulary_from_json(const Json& model, const std::string& file) {
  Vocabulary made;
  const bool unigram = model_type_from_json(model, file) == "Unigram";
  const Json& vocab = json_member(model, "vocab", file);
  if (unigram ? !vocab.is_array() : !vocab.is_object()) {
    fail(ErrorKind::kCorrupt, "{}: \"vocab\" should be {}", file,
         unigram ? "an array" : "an object");
  }
  if (vocab.size() > Vocabulary::kMaxIds)
    fail(ErrorKind::kCorrupt, "{}: {} tokens", file, vocab.size());
  if (unigram) {
    uint64_t id = 0;
    for (const Json& entry : vocab) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string()) {
        fail(ErrorKind::kCorrupt, "{}: token {} should be a text and a score", file, id);
      }
      made.add(entry[0].get_ref<const std::string&>(), id++, file);
    }
  } else {
    for (const auto& [token, id] : vocab.items()) {
      if (!id.is_number_unsigned())
        fail(ErrorKind::kCorrupt, "{}: the id of {} is not a number", file, printable(token));
      made.add(token, id.get<uint64_t>(), file);
    }
  }
  made.check_density(file);
  return made;
}

std::unique_ptr<TokenModel> model_from_json(const Json& model,
                                            std::shared_ptr<const Vocabulary> vocabulary,
                                            const std::string& file) {
  const std::string type = model_type_from_json(model, file);
  if (type == "BPE") return bpe_from_json(model, std::move(vocabulary), file);
  if (type == "Unigram") return unigram_from_json(model, std::move(vocabulary), file);
  if (type == "WordPiece") return word_piece_from_json(model, std::move(vocabulary), file);
  const int32_t unknown = unknown_by_name(model, *vocabulary, file);
  return make_word_level(std::move(vocabulary), unknown, file);
}

}  // namespace pith
