#include "formats/tokenizer/added_tokens.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "formats/printable.h"

namespace pith {
namespace {

size_t character_before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u);
  return at;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t at = character_before(text, begin);
    if (is_word(next_code_point(text, at))) return true;
  }
  return end < text.size() && is_word(next_code_point(text, end));
}

bool overlaps(AddedTokens::Ranges ranges, size_t begin, size_t end) {
  auto it = std::ranges::upper_bound(ranges, begin, {}, [](const auto& r) { return r.second; });
  while (it != ranges.end() && it->first == it->second) ++it;
  return it != ranges.end() && it->first < end;
}

}  // namespace

int32_t id_of_added(const Vocabulary& vocabulary, std::string_view text, int32_t largest,
                    const std::string& file) {
  if (const int32_t known = vocabulary.find(text); known >= 0) return known;
  const int32_t id = std::max(vocabulary.count(), largest + 1);
  if (vocabulary.has(id)) {
    fail(ErrorKind::kCorrupt, "{}: the ids of the vocabulary have gaps, and {} is both {} and {}",
         file, id, printable(vocabulary.token(id)), printable(text));
  }
  return id;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer,
                         const std::string& file)
    : tokens_(std::move(tokens)) {
  size_t bytes = 0;
  for (const auto& t : tokens_) bytes += t.text.size();
  TextBudget budget(file, bytes);
  std::vector<std::string> spelled;
  for (const auto& t : tokens_)
    spelled.push_back(t.normalized && normalizer ? normalizer->apply(t.text, budget) : t.text);
  for (const bool normalized : {false, true}) {
    for (const bool special : {false, true}) {
      std::vector<std::pair<std::string_view, int32_t>> keys;
      for (size_t i = 0; i < tokens_.size(); ++i) {
        if (tokens_[i].normalized == normalized && (special || !tokens_[i].special)) {
          keys.emplace_back(spelled[i], static_cast<int32_t>(i));
        }
      }
      tries_[normalized][special] = ByteTrie(std::move(keys));
    }
  }
}

std::vector<AddedTokens::Piece> AddedTokens::cut(std::string_view text, bool normalized,
                                                 bool parse_special, TextBudget& budget,
                                                 Ranges user_text) const {
  const ByteTrie& trie = tries_[normalized][parse_special];
  std::vector<Piece> pieces;
  size_t done = 0;
  for (size_t at = 0, tried = 0; !trie.empty() && at < text.size();) {
    if (++tried % 256 == 0) budget.check_time("of the added tokens");
    auto [length, index] = trie.longest(text.substr(at));
    if (length > 0 && tokens_[static_cast<size_t>(index)].special &&
        overlaps(user_text, at, at + length)) {
      std::tie(length, index) = tries_[normalized][false].longest(text.substr(at));
    }
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = at, end = at + length;
    at = end;
    if (token.single_word && touches_word(text, begin, end)) continue;
    while (token.lstrip && begin > done) {
      const size_t before = character_before(text, begin);
      size_t next = before;
      if (!is_white_space(next_code_point(text, next))) break;
      begin = before;
    }
    begin = std::max(begin, done);
    while (token.rstrip && end < text.size()) {
      size_t next = end;
      if (!is_white_space(next_code_point(text, next))) break;
      end = next;
    }
    if (done < begin) pieces.push_back({done, begin, -1});
    pieces.push_back({begin, end, token.id});
    done = at = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), -1});
  return pieces;
}

}  // namespace pith
