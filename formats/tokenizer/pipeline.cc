#include "formats/tokenizer/pipeline.h"

#include <algorithm>

#include "core/error.h"

namespace pith {
namespace {

class Pipeline final : public Tokenizer {
 public:
  explicit Pipeline(PipelineParts parts)
      : parts_(std::move(parts)), size_(parts_.vocabulary->size()) {
    for (const auto& token : parts_.added) size_ = std::max(size_, token.id + 1);
    added_index_.assign(static_cast<size_t>(size_), -1);
    for (size_t i = 0; i < parts_.added.size(); ++i) {
      added_index_[static_cast<size_t>(parts_.added[i].id)] = static_cast<int32_t>(i);
      added_ids_.insert_or_assign(parts_.added[i].text, parts_.added[i].id);
    }
    added_ = AddedTokens(parts_.added, parts_.normalizer.get(), parts_.file);
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.size() > TextBudget::kMaxTextBytes) {
      fail(ErrorKind::kUsage, "a text of {} bytes is too long, the limit is {}", text.size(),
           TextBudget::kMaxTextBytes);
    }
    std::vector<int32_t> ids;
    if (options.add_special) ids = parts_.post_processor.before;
    std::string replaced;
    const bool valid = valid_utf8_prefix(text) == text.size();
    if (!valid) text = replaced = valid_utf8_or_replaced(text);
    // Replacing moves bytes: then nothing is known of who wrote what.
    const bool parse_special = options.parse_special && (valid || options.user_text.empty());
    TextBudget budget(parts_.file, text.size());
    for (const auto& piece : cut(text, parse_special, options.user_text)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
      } else {
        encode_raw(text.substr(piece.begin, piece.end - piece.begin), piece.begin == 0,
                   parse_special && !touches(piece, options.user_text), budget, ids);
      }
    }
    if (options.add_special) {
      ids.insert(ids.end(), parts_.post_processor.after.begin(), parts_.post_processor.after.end());
    }
    return ids;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int32_t id : ids) {
      if (!known(id) || (skip_special && is_special(id))) continue;
      tokens.push_back(token_text(id));
    }
    std::string out;
    if (parts_.decoder) {
      size_t bytes = 0;
      for (const auto& token : tokens) bytes += token.size();
      TextBudget budget(parts_.file, bytes);
      for (const auto& token : parts_.decoder->apply(std::move(tokens), budget)) out += token;
    } else {
      for (size_t i = 0; i < tokens.size(); ++i) out.append(i > 0 ? " " : "").append(tokens[i]);
    }
    return out;
  }

  int32_t vocab_size() const override { return size_; }
  std::string token_text(int32_t id) const override {
    if (const AddedToken* token = added(id)) return token->text;
    return parts_.vocabulary->has(id) ? parts_.vocabulary->token(id) : "";
  }
  std::optional<int32_t> id_of(std::string_view token) const override {
    if (const auto it = added_ids_.find(token); it != added_ids_.end()) return it->second;
    const int32_t id = parts_.vocabulary->find(token);
    return id >= 0 ? std::optional(id) : std::nullopt;
  }
  bool is_special(int32_t id) const override {
    const AddedToken* token = added(id);
    return token != nullptr && token->special;
  }

  std::optional<int32_t> bos() const override { return parts_.bos; }
  std::optional<int32_t> eos() const override { return parts_.eos; }
  bool adds_bos() const override {
    const auto& before = parts_.post_processor.before;
    return parts_.bos && !before.empty() && before.front() == *parts_.bos;
  }

 private:
  const AddedToken* added(int32_t id) const {
    if (id < 0 || id >= size_) return nullptr;
    const int32_t i = added_index_[static_cast<size_t>(id)];
    return i < 0 ? nullptr : &parts_.added[static_cast<size_t>(i)];
  }
  bool known(int32_t id) const { return added(id) != nullptr || parts_.vocabulary->has(id); }

  // Text between added tokens: normalized, cut at the added tokens that are matched in normalized
  // text.
  using Ranges = std::span<const std::pair<size_t, size_t>>;

  static bool touches(const AddedTokens::Piece& piece, Ranges ranges) {
    const auto it =
        std::ranges::upper_bound(ranges, piece.begin, {}, [](const auto& r) { return r.second; });
    return it != ranges.end() && it->first < piece.end;
  }

  // The text cut at added tokens. What looks like a special token in a user's text is text again,
  // one piece with its neighbours.
  std::vector<AddedTokens::Piece> cut(std::string_view text, bool parse_special,
                                      Ranges user_text) const {
    auto pieces = added_.cut(text, false, parse_special);
    if (user_text.empty()) return pieces;
    std::vector<AddedTokens::Piece> joined;
    for (auto piece : pieces) {
      if (piece.id >= 0 && is_special(piece.id) && touches(piece, user_text)) piece.id = -1;
      if (piece.id < 0 && !joined.empty() && joined.back().id < 0) {
        joined.back().end = piece.end;
      } else {
        joined.push_back(piece);
      }
    }
    return joined;
  }

  void encode_raw(std::string_view text, bool begins_text, bool parse_special, TextBudget& budget,
                  std::vector<int32_t>& ids) const {
    std::string normalized;
    if (parts_.normalizer) text = normalized = parts_.normalizer->apply(text, budget);
    for (const auto& piece : added_.cut(text, true, parse_special)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      Words words;
      words.text = text.substr(piece.begin, piece.end - piece.begin);
      words.spans = {{0, words.text.size()}};
      words.begins_text = begins_text && piece.begin == 0;
      if (parts_.pre_tokenizer) parts_.pre_tokenizer->apply(words, budget);
      for (const auto& word : words.spans) {
        if (word.begin == word.end) continue;
        if (word.end - word.begin > TextBudget::kMaxWordBytes) {
          fail(
              ErrorKind::kUsage,
              "{}: nothing cuts {} bytes of the text into words, and the limit for one is {}: give "
              "the text in parts",
              parts_.file, word.end - word.begin, TextBudget::kMaxWordBytes);
        }
        parts_.model->encode(std::string_view(words.text).substr(word.begin, word.end - word.begin),
                             ids);
      }
    }
  }

  PipelineParts parts_;
  int32_t size_;
  std::vector<int32_t> added_index_;  // by id, into parts_.added
  StringMap<int32_t> added_ids_;
  AddedTokens added_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline(PipelineParts parts) {
  return std::make_unique<Pipeline>(std::move(parts));
}

}  // namespace pith
