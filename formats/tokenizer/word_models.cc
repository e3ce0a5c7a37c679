#include "formats/tokenizer/word_models.h"

#include <algorithm>

#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/byte_trie.h"

namespace pith {
namespace {

int32_t unknown_or_fail(int32_t unknown, std::string_view word, const std::string& file) {
  if (unknown < 0) {
    fail(ErrorKind::kUnsupported,
         "{}: the word {} is not in the vocabulary, and it has no unknown token", file,
         printable(word));
  }
  return unknown;
}

class WordPiece final : public TokenModel {
 public:
  WordPiece(const Vocabulary& vocabulary, const WordPieceOptions& options, std::string file)
      : options_(options), file_(std::move(file)) {
    std::vector<std::pair<std::string_view, int32_t>> keys;
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
      if (vocabulary.has(id) && !vocabulary.is_hidden(id))
        keys.emplace_back(vocabulary.token(id), id);
    }
    trie_ = ByteTrie(std::move(keys));
    first_ = trie_.walk(ByteTrie::kRoot, options.first_prefix);
    continuing_ = trie_.walk(ByteTrie::kRoot, options.continuing_prefix);
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const auto characters = std::count_if(word.begin(), word.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
    });
    const size_t before = ids.size();
    bool known = static_cast<uint64_t>(characters) <= options_.max_characters;
    for (size_t at = 0; known && at < word.size();) {
      uint32_t node = at == 0 ? first_ : continuing_;
      size_t end = at;
      int32_t id = -1;
      for (size_t i = at; node != ByteTrie::kNone && i < word.size();) {
        node = trie_.child(node, word[i++]);
        if (node != ByteTrie::kNone && trie_.value(node) >= 0) {
          end = i;
          id = trie_.value(node);
        }
      }
      known = id >= 0;
      if (known) ids.push_back(id);
      at = end;
    }
    if (!known) {
      ids.resize(before);
      ids.push_back(unknown_or_fail(options_.unknown, word, file_));
    }
  }

 private:
  WordPieceOptions options_;
  std::string file_;
  ByteTrie trie_;
  uint32_t first_, continuing_;
};

class WordLevel final : public TokenModel {
 public:
  WordLevel(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown, std::string file)
      : vocabulary_(std::move(vocabulary)), unknown_(unknown), file_(std::move(file)) {}

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const int32_t id = vocabulary_->match(word);
    ids.push_back(id >= 0 ? id : unknown_or_fail(unknown_, word, file_));
  }

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  int32_t unknown_;
  std::string file_;
};

}  // namespace

std::unique_ptr<TokenModel> make_word_piece(std::shared_ptr<const Vocabulary> vocabulary,
                                            const WordPieceOptions& options,
                                            const std::string& file) {
  return std::make_unique<WordPiece>(*vocabulary, options, file);
}

std::unique_ptr<TokenModel> make_word_level(std::shared_ptr<const Vocabulary> vocabulary,
                                            int32_t unknown, const std::string& file) {
  return std::make_unique<WordLevel>(std::move(vocabulary), unknown, file);
}

}  // namespace pith
