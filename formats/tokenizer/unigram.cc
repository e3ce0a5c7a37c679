#include "formats/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/tokenizer/byte_trie.h"

namespace pith {
namespace {

constexpr double kUnknownPenalty = 10;

class Unigram final : public TokenModel {
 public:
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, UnigramOptions options, std::string file)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)), file_(std::move(file)) {
    if (options_.byte_fallback) bytes_ = ByteFallback(*vocabulary_);
    std::vector<std::pair<std::string_view, int32_t>> keys;
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double smallest = kInfinity, largest = -kInfinity;
    for (int32_t id = 0; id < vocabulary_->size(); ++id) {
      const auto i = static_cast<size_t>(id);
      if (!vocabulary_->has(id) || !options_.usable[i] || vocabulary_->is_hidden(id)) continue;
      keys.emplace_back(vocabulary_->token(id), id);
      if (options_.user_defined[i]) continue;
      smallest = std::min(smallest, options_.scores[i]);
      largest = std::max(largest, options_.scores[i]);
    }
    if (!std::isfinite(smallest)) smallest = largest = 0;
    for (size_t i = 0; i < options_.scores.size(); ++i) {
      if (!options_.user_defined[i]) continue;
      options_.scores[i] =
          static_cast<double>(vocabulary_->token(static_cast<int32_t>(i)).size()) * largest - 0.1;
    }
    unknown_score_ = smallest - kUnknownPenalty;
    trie_ = ByteTrie(std::move(keys));
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const std::vector<Best> best = forward(word);
    std::vector<uint32_t> ends;  // of the path, last first
    for (auto end = static_cast<uint32_t>(word.size()); end > 0; end = best[end].begin)
      ends.push_back(end);
    uint32_t unknown_begin = 0;
    bool in_unknown = false;
    for (size_t i = ends.size(); i-- > 0;) {
      const Best& node = best[ends[i]];
      if (is_unknown(node)) {
        if (!in_unknown) unknown_begin = node.begin;
        in_unknown = i > 0 && is_unknown(best[ends[i - 1]]);
        if (!in_unknown) append_unknown(word.substr(unknown_begin, ends[i] - unknown_begin), ids);
      } else {
        ids.push_back(node.id);
      }
    }
  }

 private:
  static constexpr int32_t kUnknown = -2;
  struct Best {  // the best path that ends here
    double score = 0;
    uint32_t begin = 0;
    int32_t id = -1;  // -1: no path yet
  };

  // The unknown token can have a text that is found like any other; its neighbours join it.
  bool is_unknown(const Best& node) const {
    return node.id == kUnknown || node.id == options_.unknown;
  }
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
    if (const int32_t id = vocabulary_->match(text); id >= 0 && usable(id)) {
      ids.push_back(id);
    } else if (!bytes_.append(text, ids)) {
      ids.push_back(options_.unknown);
    }
  }
  bool usable(int32_t id) const { return options_.usable[static_cast<size_t>(id)]; }

  double add(double a, double b) const {
    return options_.single_precision
               ? static_cast<double>(static_cast<float>(a) + static_cast<float>(b))
               : a + b;
  }

  std::vector<Best> forward(std::string_view word) const {
    std::vector<Best> best(word.size() + 1);
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      const double total = add(best[begin].score, score);
      if (best[end].id == -1 || total > best[end].score)
        best[end] = {total, static_cast<uint32_t>(begin), id};
    };
    for (size_t at = 0; at < word.size();) {
      const size_t length = std::min(utf8_length(word[at]), word.size() - at);
      bool covered = false;
      uint32_t node = ByteTrie::kRoot;
      for (size_t i = at; i < word.size(); ++i) {
        node = trie_.child(node, word[i]);
        if (node == ByteTrie::kNone) break;
        const int32_t id = trie_.value(node);
        if (id < 0) continue;
        offer(at, i + 1, options_.scores[static_cast<size_t>(id)], id);
        if (i + 1 - at == length) covered = true;
      }
      if (!covered) {
        if (options_.unknown < 0) {
          fail(ErrorKind::kUnsupported,
               "{}: a character is not in the vocabulary, and it has no unknown token", file_);
        }
        offer(at, at + length, unknown_score_, kUnknown);
      }
      at += length;
    }
    return best;
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  UnigramOptions options_;
  std::string file_;
  ByteFallback bytes_;
  ByteTrie trie_;
  double unknown_score_ = 0;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(std::shared_ptr<const Vocabulary> vocabulary,
                                         UnigramOptions options, const std::string& file) {
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(options), file);
}

}  // namespace pith
