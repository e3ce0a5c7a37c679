#include "core/utf8.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/merge_heap.h"

namespace pith {
namespace {

class ScoredBpe final : public TokenModel {
 public:
  ScoredBpe(std::shared_ptr<const Vocabulary> vocabulary, ScoredBpeVocabulary scored,
            const BpeOptions& options)
      : vocabulary_(std::move(vocabulary)), scored_(std::move(scored)), options_(options) {
    if (options.byte_fallback) bytes_ = ByteFallback(*vocabulary_);
    std::vector<std::pair<std::string_view, int32_t>> keys;
    for (const int32_t id : scored_.frozen) keys.emplace_back(vocabulary_->token(id), id);
    frozen_ = ByteTrie(std::move(keys));
    for (int32_t id = 0; id < vocabulary_->size(); ++id) {
      if (scored_.mergeable[static_cast<size_t>(id)])
        longest_ = std::max(longest_, vocabulary_->token(id).size());
    }
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    if (options_.ignore_merges) {
      if (const int32_t id = mergeable_id(word); id >= 0) {
        ids.push_back(id);
        return;
      }
    }
    std::vector<BpeSymbol> symbols;
    split(word, symbols);
    PassedThrough passed;
    merge_symbols(symbols, [&](const BpeSymbol& l, const BpeSymbol& r) -> std::optional<BpeMerge> {
      if (l.size + r.size > longest_) return std::nullopt;
      const int32_t id = mergeable_id(word.substr(l.begin, l.size + r.size));
      if (id < 0) return std::nullopt;
      if (scored_.unused[static_cast<size_t>(id)]) {
        passed.insert_or_assign(id, std::pair(std::string(word.substr(l.begin, l.size)),
                                              std::string(word.substr(r.begin, r.size))));
      }
      return BpeMerge{-static_cast<double>(scored_.scores[static_cast<size_t>(id)]), id};
    });
    bool in_unknown = false;
    for (const BpeSymbol& s : symbols) {
      if (s.size != 0) emit(word.substr(s.begin, s.size), s.id, passed, ids, in_unknown);
    }
  }

 private:
  // The two parts that an unused token was merged from last.
  using PassedThrough = std::unordered_map<int32_t, std::pair<std::string, std::string>>;

  int32_t mergeable_id(std::string_view text) const {
    const int32_t id = vocabulary_->find(text);
    return id >= 0 && scored_.mergeable[static_cast<size_t>(id)] ? id : -1;
  }

  void split(std::string_view word, std::vector<BpeSymbol>& symbols) const {
    for (size_t at = 0; at < word.size();) {
      BpeSymbol s{.begin = static_cast<uint32_t>(at)};
      if (const auto [length, id] = frozen_.longest(word.substr(at)); length > 0) {
        s.id = id;
        s.size = static_cast<uint32_t>(length);
        s.frozen = true;
      } else {
        s.size = static_cast<uint32_t>(std::min(utf8_length(word[at]), word.size() - at));
        s.id = mergeable_id(word.substr(at, s.size));
        s.frozen = s.id < 0 && scored_.freeze_unknown;
      }
      at += s.size;
      symbols.push_back(s);
    }
  }

  // Parts are shorter than what they were merged from, so this recursion ends after at most one
  // level per byte of a token.
  void emit(std::string_view text, int32_t id, const PassedThrough& passed,
            std::vector<int32_t>& ids, bool& in_unknown) const {
    if (id >= 0 && scored_.unused[static_cast<size_t>(id)]) {
      if (const auto parts = passed.find(id); parts != passed.end()) {
        emit(parts->second.first, mergeable_id(parts->second.first), passed, ids, in_unknown);
        emit(parts->second.second, mergeable_id(parts->second.second), passed, ids, in_unknown);
        return;
      }
    }
    bool unknown = false;
    if (id >= 0) {
      ids.push_back(id);
    } else if (!bytes_.append(text, ids) && options_.unknown >= 0) {
      unknown = true;
      if (!(in_unknown && options_.fuse_unknown)) ids.push_back(options_.unknown);
    }
    in_unknown = unknown;
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  ScoredBpeVocabulary scored_;
  BpeOptions options_;
  ByteFallback bytes_;
  ByteTrie frozen_;
  size_t longest_ = 0;
};

}  // namespace

std::unique_ptr<TokenModel> make_scored_bpe(std::shared_ptr<const Vocabulary> vocabulary,
                                            ScoredBpeVocabulary scored, const BpeOptions& options) {
  return std::make_unique<ScoredBpe>(std::move(vocabulary), std::move(scored), options);
}

}  // namespace pith
