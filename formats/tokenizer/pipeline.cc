#include "formats/tokenizer/pipeline.h"

#include <algorithm>

#include "core/error.h"
#include "core/utf8.h"

namespace pith {
namespace {

constexpr size_t kMaxTracedBytes = size_t{1} << 28;  // normalized again to find a user's text

// Text with its invalid bytes replaced, and where the ranges lie in it.
struct RepairedText {
  std::string text;
  std::vector<std::pair<size_t, size_t>> user_text;
};

bool continues_utf8(char c) { return (static_cast<unsigned char>(c) & 0xc0u) == 0x80u; }

// Repairs each part alone, so that an unfinished sequence of a user does not absorb bytes of the
// template.
RepairedText repair(std::string_view text, AddedTokens::Ranges user_text) {
  RepairedText out;
  size_t at = 0;
  const auto append = [&](size_t end) {
    end = std::clamp(end, at, text.size());
    out.text += valid_utf8_or_replaced(text.substr(at, end - at));
    at = end;
  };
  for (const auto& [begin, end] : user_text) {
    append(begin);
    const size_t from = out.text.size();
    append(end);
    out.user_text.emplace_back(from, out.text.size());
  }
  append(text.size());
  return out;
}

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
    set_stop_tokens(parts_.stops);
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.size() > TextBudget::kMaxTextBytes) {
      fail(ErrorKind::kUsage, "a text of {} bytes is too long, the limit is {}", text.size(),
           TextBudget::kMaxTextBytes);
    }
    std::vector<int32_t> ids;
    if (options.add_special) ids = parts_.post_processor.before;
    Ranges user_text = options.user_text;
    RepairedText repaired;
    if (valid_utf8_prefix(text) != text.size()) {
      repaired = repair(text, user_text);
      text = repaired.text;
      user_text = repaired.user_text;
    }
    TextBudget budget(parts_.file, text.size());
    for (const auto& piece : added_.cut(text, false, options.parse_special, budget, user_text)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
      } else {
        encode_raw(text, piece, options.parse_special, user_text, budget, ids);
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

  using Ranges = AddedTokens::Ranges;

  // The bytes of `raw` that users wrote, as ranges of `text`, which it became by `normalizer`. A
  // normalizer does not tell where a byte went: the output of the text before a range, normalized
  // by itself, is not the user's, nor is that of the text after it. Costs two runs of the
  // normalizer a range.
  std::vector<std::pair<size_t, size_t>> ranges_in(std::string_view raw, size_t offset,
                                                   Ranges user_text, const Normalizer* normalizer,
                                                   std::string_view text) const {
    std::vector<std::pair<size_t, size_t>> made;
    for (const auto& [first, last] : user_text) {
      if (last <= offset || first >= offset + raw.size()) continue;
      // Whole characters: a normalizer takes nothing else.
      size_t begin = first > offset ? first - offset : 0, end = std::min(last - offset, raw.size());
      while (begin > 0 && continues_utf8(raw[begin])) --begin;
      while (end < raw.size() && continues_utf8(raw[end])) ++end;
      if (normalizer == nullptr) {
        made.emplace_back(begin, end);
        continue;
      }
      if ((made.size() + 1) * raw.size() > kMaxTracedBytes) {
        fail(ErrorKind::kUnsupported,
             "the tokenizer's special tokens are matched in normalized text, and a conversation of "
             "{} bytes is too long for that",
             raw.size());
      }
      TextBudget budget(parts_.file, raw.size());
      const std::string before = begin == 0 ? "" : normalizer->apply(raw.substr(0, begin), budget);
      const std::string behind =
          end == raw.size() ? "" : normalizer->apply(raw.substr(end), budget);
      const auto same = std::ranges::mismatch(text, before).in1 - text.begin();
      const auto same_behind =
          std::mismatch(text.rbegin(), text.rend(), behind.rbegin(), behind.rend()).first -
          text.rbegin();
      auto from = static_cast<size_t>(same), to = text.size() - static_cast<size_t>(same_behind);
      if (from > to) std::swap(from, to);
      if (!made.empty()) from = std::max(from, made.back().second);
      made.emplace_back(from, std::max(from, to));
    }
    return made;
  }

  // Whether something of the first character is left. Where nothing is, what is left does not begin
  // the text (prepend_scheme "first").
  bool keeps_first(const Normalizer& normalizer, std::string_view text) const {
    const std::string_view first = text.substr(0, utf8_length(text[0]));
    TextBudget budget(parts_.file, first.size());
    return !normalizer.apply(first, budget).empty();
  }

  // Text between added tokens: normalized, cut at the added tokens that are matched in normalized
  // text.
  void encode_raw(std::string_view whole, const AddedTokens::Piece& raw, bool parse_special,
                  Ranges user_text, TextBudget& budget, std::vector<int32_t>& ids) const {
    const std::string_view written = whole.substr(raw.begin, raw.end - raw.begin);
    const bool begins_text = raw.begin == 0;
    const Normalizer* const normalizer = begins_text || !parts_.later_normalizer
                                             ? parts_.normalizer.get()
                                             : parts_.later_normalizer.get();
    std::string normalized;
    std::string_view text = written;
    if (normalizer) text = normalized = normalizer->apply(written, budget);
    const bool from_first =
        begins_text && !text.empty() && (!normalizer || keeps_first(*normalizer, written));
    auto pieces = added_.cut(text, true, parse_special, budget);
    const bool specials =
        std::ranges::any_of(pieces, [&](const auto& p) { return p.id >= 0 && is_special(p.id); });
    if (specials && !user_text.empty()) {
      pieces = added_.cut(text, true, parse_special, budget,
                          ranges_in(written, raw.begin, user_text, normalizer, text));
    }
    for (const auto& piece : pieces) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      Words words;
      words.text = text.substr(piece.begin, piece.end - piece.begin);
      words.spans = {{0, words.text.size()}};
      words.begins_text = from_first && piece.begin == 0;
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
