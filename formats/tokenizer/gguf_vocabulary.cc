// The tokenizer.* pairs of a GGUF file. tokenizer.ggml.model says which kind: "llama"
// (SentencePiece BPE), "gpt2" (byte-level BPE), "bert" (WordPiece, words marked by U+2581) or "t5"
// (SentencePiece unigram). Tokens, scores and types are parallel arrays; what a file leaves out has
// llama.cpp's default.

#include <cmath>

#include "core/error.h"
#include "formats/gguf_metadata.h"
#include "formats/printable.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/pieces.h"
#include "formats/tokenizer/pipeline.h"
#include "formats/tokenizer/word_models.h"

namespace pith {
namespace {

constexpr size_t kGpt2Eos = 11;

class GgufVocabulary {
 public:
  explicit GgufVocabulary(const GgufMetadata& metadata)
      : metadata_(metadata), file_(metadata.file.empty() ? "GGUF vocabulary" : metadata.file) {
    const auto& texts = metadata.texts("tokenizer.ggml.tokens");
    std::vector<double> scores;
    std::vector<int64_t> types;
    if (metadata.has("tokenizer.ggml.scores")) scores = metadata.numbers("tokenizer.ggml.scores");
    if (metadata.has("tokenizer.ggml.token_type"))
      types = metadata.integers("tokenizer.ggml.token_type");
    if (texts.size() > Vocabulary::kMaxIds || (!scores.empty() && scores.size() != texts.size()) ||
        (!types.empty() && types.size() != texts.size())) {
      fail(ErrorKind::kCorrupt, "{}: {} tokens, {} scores, {} types", file_, texts.size(),
           scores.size(), types.size());
    }
    pieces_.resize(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      pieces_[i].text = texts[i];
      if (!scores.empty()) pieces_[i].score = static_cast<float>(scores[i]);
      if (!types.empty()) pieces_[i].type = piece_type(types[i], file_);
    }
    parts_.file = file_;
  }

  std::unique_ptr<Tokenizer> make() {
    const std::string kind = metadata_.text("tokenizer.ggml.model");
    if (kind == "llama") return make_llama();
    if (kind == "gpt2") return make_gpt2();
    if (kind == "bert") return make_bert();
    if (kind == "t5" || kind == "unigram") return make_t5();
    fail(ErrorKind::kUnsupported, "{}: tokenizer.ggml.model {} is not supported", file_,
         printable(kind));
  }

 private:
  // An id outside of the vocabulary counts as missing.
  std::optional<int32_t> id(const char* key, std::optional<uint64_t> missing) const {
    const std::string name = std::string("tokenizer.ggml.") + key;
    uint64_t value = missing.value_or(UINT64_MAX);
    if (metadata_.has(name) && metadata_.uint(name) < pieces_.size()) value = metadata_.uint(name);
    return value < pieces_.size() ? std::optional(static_cast<int32_t>(value)) : std::nullopt;
  }
  bool flag(const char* key, bool missing) const {
    return metadata_.boolean(std::string("tokenizer.ggml.") + key, missing);
  }

  // Further stop tokens: other ids of the file and, as in llama.cpp, the tokens with which a code
  // model would go on to another file.
  void find_stops() {
    for (const char* key : {"eot_token_id", "eom_token_id"}) {
      if (const auto stop = id(key, {})) parts_.stops.push_back(*stop);
    }
    static constexpr std::string_view kFiles[] = {"<|fim_pad|>",  "<fim-pad>",    "<|fim_repo|>",
                                                  "<fim-repo>",   "<REPO>",       "<reponame>",
                                                  "<|file_sep|>", "<|repo_name|>"};
    for (const std::string_view text : kFiles) {
      if (const int32_t stop = parts_.vocabulary->find(text); stop >= 0)
        parts_.stops.push_back(stop);
    }
  }

  std::unique_ptr<Tokenizer> finish(bool add_bos, bool add_eos) {
    find_stops();
    if (parts_.bos && flag("add_bos_token", add_bos)) parts_.post_processor.before = {*parts_.bos};
    if (parts_.eos && flag("add_eos_token", add_eos)) parts_.post_processor.after = {*parts_.eos};
    return make_pipeline(std::move(parts_));
  }

  std::unique_ptr<Tokenizer> make_llama() {
    const auto vocabulary = vocabulary_of_pieces(pieces_, file_);
    const bool prefix = flag("add_space_prefix", true);
    parts_.vocabulary = vocabulary;
    parts_.added = added_of_pieces(pieces_, true);
    parts_.model = bpe_of_pieces(pieces_, vocabulary, id("unknown_token_id", 0).value_or(-1));
    std::vector<NormalizerPtr> normalizers;
    if (prefix) normalizers.push_back(normalize_prepend(" "));
    normalizers.push_back(normalize_replace(" ", std::string(kMetaspace)));
    parts_.normalizer = normalize_sequence(std::move(normalizers));
    parts_.decoder = decoder_of_pieces(prefix);
    parts_.bos = id("bos_token_id", 1);
    parts_.eos = id("eos_token_id", 2);
    return finish(true, false);
  }

  std::unique_ptr<Tokenizer> make_gpt2() {
    const std::string pre = metadata_.text("tokenizer.ggml.pre", "default");
    const GgufSplit* split = find_gguf_split(pre);
    if (split == nullptr) {
      fail(ErrorKind::kUnsupported, "{}: tokenizer.ggml.pre {} is not supported", file_,
           printable(pre));
    }
    const auto vocabulary = vocabulary_of_pieces(pieces_, file_);
    parts_.vocabulary = vocabulary;
    parts_.added = added_of_pieces(pieces_, true);
    BpeOptions options;
    options.ignore_merges = split->ignore_merges;
    parts_.model = metadata_.has("tokenizer.ggml.merges") ? make_merges(vocabulary, options)
                                                          : make_ranks(vocabulary, options);
    std::vector<PreTokenizerPtr> splits;
    for (const std::string_view pattern : split->patterns) {
      splits.push_back(split_regex(Regex(pattern, file_), SplitBehavior::kIsolated, false));
    }
    splits.push_back(split_byte_level(flag("add_space_prefix", false), false, file_));
    parts_.pre_tokenizer = split_sequence(std::move(splits));
    parts_.decoder = decode_byte_level();
    parts_.bos = id("bos_token_id", {});
    // llama.cpp's default for GPT-2 vocabularies, where that id is a control token.
    const bool control = pieces_.size() > kGpt2Eos && pieces_[kGpt2Eos].type == PieceType::kControl;
    parts_.eos = id("eos_token_id", control ? std::optional<uint64_t>(kGpt2Eos) : std::nullopt);
    return finish(split->adds_bos, false);
  }

  std::unique_ptr<TokenModel> make_merges(const std::shared_ptr<const Vocabulary>& vocabulary,
                                          const BpeOptions& options) const {
    std::vector<std::pair<std::string, std::string>> merges;
    for (const std::string& merge : metadata_.texts("tokenizer.ggml.merges")) {
      const size_t blank = merge.find(' ', 1);  // a token is not empty
      if (blank == std::string::npos) {
        fail(ErrorKind::kCorrupt, "{}: merge {} {} is not a pair of tokens", file_, merges.size(),
             printable(merge));
      }
      merges.emplace_back(merge.substr(0, blank), merge.substr(blank + 1));
    }
    return make_ranked_bpe(vocabulary, merges, options, file_);
  }

  // A vocabulary of tiktoken, whose ids are the ranks of its merges (Kimi K2).
  std::unique_ptr<TokenModel> make_ranks(const std::shared_ptr<const Vocabulary>& vocabulary,
                                         const BpeOptions& options) const {
    ScoredBpeVocabulary scored;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      scored.scores.push_back(-static_cast<float>(i));
      scored.mergeable.push_back(pieces_[i].type == PieceType::kNormal);
      scored.unused.push_back(false);
    }
    return make_scored_bpe(vocabulary, std::move(scored), options);
  }

  std::unique_ptr<Tokenizer> make_bert() {
    const auto vocabulary = vocabulary_of_pieces(pieces_, file_);
    parts_.vocabulary = vocabulary;
    parts_.added = added_of_pieces(pieces_, true);
    WordPieceOptions options;
    options.unknown = id("unknown_token_id", 100).value_or(0);
    options.first_prefix = kMetaspace;
    options.continuing_prefix = "";
    parts_.model = make_word_piece(vocabulary, options, file_);
    parts_.normalizer = normalize_bert({});
    parts_.pre_tokenizer = split_bert();
    std::vector<DecoderPtr> decoders;
    decoders.push_back(decode_replace(std::string(kMetaspace), " "));
    decoders.push_back(decode_fuse());
    decoders.push_back(decode_strip(" ", 1, 0));
    parts_.decoder = decode_sequence(std::move(decoders));
    parts_.bos =
        id(metadata_.has("tokenizer.ggml.cls_token_id") ? "cls_token_id" : "bos_token_id", 101);
    parts_.eos = id(
        metadata_.has("tokenizer.ggml.seperator_token_id") ? "seperator_token_id" : "eos_token_id",
        102);
    return finish(true, true);
  }

  std::unique_ptr<Tokenizer> make_t5() {
    const auto vocabulary = vocabulary_of_pieces(pieces_, file_);
    parts_.vocabulary = vocabulary;
    parts_.added = added_of_pieces(pieces_, true);
    parts_.model =
        unigram_of_pieces(pieces_, vocabulary, id("unknown_token_id", 2).value_or(-1), file_);
    std::string map;
    if (metadata_.has("tokenizer.ggml.precompiled_charsmap")) {
      for (const int64_t byte : metadata_.integers("tokenizer.ggml.precompiled_charsmap")) {
        map.push_back(static_cast<char>(static_cast<unsigned char>(byte & 0xff)));
      }
    }
    SentencePieceSpacing spacing;
    spacing.add_dummy_prefix = flag("add_space_prefix", true);
    spacing.remove_extra = flag("remove_extra_whitespaces", true);
    parts_.normalizer = normalize_sentencepiece(Charsmap(map, file_), ByteTrie(), spacing);
    parts_.decoder = decoder_of_pieces(spacing.add_dummy_prefix);
    parts_.bos = id("bos_token_id", {});
    parts_.eos = id("eos_token_id", 1);
    return finish(false, true);
  }

  const GgufMetadata& metadata_;
  std::string file_;
  std::vector<Piece> pieces_;
  PipelineParts parts_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_gguf_tokenizer(const GgufMetadata& metadata) {
  return GgufVocabulary(metadata).make();
}

}  // namespace pith
