#include "formats/tokenizer/bpe.h"

#include <optional>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/printable.h"
#include "formats/tokenizer/merge_heap.h"

namespace pith {
namespace {

// (left id, right id) -> merge, by open addressing: the lookup of every inner step.
class PairTable {
 public:
  explicit PairTable(size_t pairs) {
    size_t n = 16;
    while (n < 2 * pairs) n *= 2;
    slots_.resize(n);
  }
  void insert(int32_t left, int32_t right, uint32_t rank, int32_t id) {
    Slot& s = slots_[find_slot(key(left, right))];
    s = {key(left, right), rank,
         id};  // the last rank given counts, as for a map that is overwritten
  }
  std::optional<BpeMerge> find(int32_t left, int32_t right) const {
    const Slot& s = slots_[find_slot(key(left, right))];
    if (s.key == kEmpty) return std::nullopt;
    return BpeMerge{static_cast<double>(s.rank), s.id};
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key = kEmpty;
    uint32_t rank = 0;
    int32_t id = -1;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }
  size_t find_slot(uint64_t k) const {
    uint64_t h = k * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    size_t i = h & (slots_.size() - 1);
    while (slots_[i].key != kEmpty && slots_[i].key != k) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  std::vector<Slot> slots_;
};

class RankedBpe final : public TokenModel {
 public:
  RankedBpe(std::shared_ptr<const Vocabulary> vocabulary, PairTable merges,
            const BpeOptions& options, std::string file)
      : vocabulary_(std::move(vocabulary)),
        merges_(std::move(merges)),
        options_(options),
        file_(std::move(file)) {
    if (options.byte_fallback) bytes_ = ByteFallback(*vocabulary_);
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    if (options_.ignore_merges) {
      if (const int32_t id = vocabulary_->match(word); id >= 0) {
        ids.push_back(id);
        return;
      }
    }
    std::vector<BpeSymbol> symbols;
    split(word, symbols);
    merge_symbols(symbols, [this](const BpeSymbol& l, const BpeSymbol& r) {
      return merges_.find(l.id, r.id);
    });
    for (const BpeSymbol& s : symbols) {
      if (s.size != 0) ids.push_back(s.id);
    }
  }

 private:
  void split(std::string_view word, std::vector<BpeSymbol>& symbols) const {
    std::string decorated;
    std::vector<int32_t> bytes;
    bool in_unknown = false;
    for (size_t at = 0; at < word.size();) {
      const size_t length = std::min(utf8_length(word[at]), word.size() - at);
      std::string_view text = word.substr(at, length);
      const bool first = at == 0, last = at + length == word.size();
      if ((!first && !options_.continuing_prefix.empty()) ||
          (last && !options_.end_of_word_suffix.empty())) {
        decorated.clear();
        if (!first) decorated += options_.continuing_prefix;
        decorated += text;
        if (last) decorated += options_.end_of_word_suffix;
        text = decorated;
      }
      const auto push = [&](int32_t id) {
        symbols.push_back(
            {.id = id, .begin = static_cast<uint32_t>(at), .size = static_cast<uint32_t>(length)});
      };
      bytes.clear();
      bool unknown = false;
      if (const int32_t id = vocabulary_->match(text); id >= 0) {
        push(id);
      } else if (bytes_.append(text, bytes)) {
        for (const int32_t b : bytes) push(b);
      } else if (options_.unknown >= 0) {
        unknown = true;
        if (!(in_unknown && options_.fuse_unknown)) push(options_.unknown);
      } else if (!options_.missing_unknown.empty()) {
        fail(ErrorKind::kUnsupported,
             "{}: {} is not in the vocabulary, nor is the unk_token {} that stands for it", file_,
             printable(text), options_.missing_unknown);
      }
      in_unknown = unknown;
      at += length;
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  PairTable merges_;
  BpeOptions options_;
  std::string file_;
  ByteFallback bytes_;
};

}  // namespace

std::unique_ptr<TokenModel> make_ranked_bpe(
    std::shared_ptr<const Vocabulary> vocabulary,
    const std::vector<std::pair<std::string, std::string>>& merges, const BpeOptions& options,
    const std::string& file) {
  PairTable table(merges.size());
  std::string joined;
  uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const int32_t l = vocabulary->require(left, file, "merge part");
    const int32_t r = vocabulary->require(right, file, "merge part");
    std::string_view tail = right;
    if (tail.size() > options.continuing_prefix.size() &&
        tail.starts_with(options.continuing_prefix)) {
      tail.remove_prefix(options.continuing_prefix.size());
    }
    joined.assign(left).append(tail);
    const int32_t result = vocabulary->require(joined, file, "merge result");
    if (!vocabulary->is_hidden(result)) table.insert(l, r, rank, result);
    ++rank;
  }
  return std::make_unique<RankedBpe>(std::move(vocabulary), std::move(table), options, file);
}

}  // namespace pith
