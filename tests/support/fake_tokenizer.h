// A tokenizer whose every token is a text of its own: token i is texts[i], and encoding takes the
// longest that fits (bytes that fit none are skipped).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer/tokenizer.h"

namespace pith::test {

class FakeTokenizer final : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> texts, std::optional<int32_t> bos = {})
      : texts_(std::move(texts)), bos_(bos) {}

  // Letters "a", "b", ... from `first` on, line breaks as token `first - 1`.
  static FakeTokenizer letters(int32_t first, std::optional<int32_t> bos = {}) {
    std::vector<std::string> texts(static_cast<size_t>(first) - 1);
    texts.emplace_back("\n");
    for (char c = 'a'; c <= 'z'; ++c) texts.emplace_back(1, c);
    return FakeTokenizer(std::move(texts), bos);
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> out;
    if (bos_ && options.add_special) out.push_back(*bos_);
    while (!text.empty()) {
      size_t best = 0, length = 0;
      for (size_t i = 0; i < texts_.size(); ++i) {
        if (texts_[i].size() > length && text.starts_with(texts_[i])) {
          best = i;
          length = texts_[i].size();
        }
      }
      if (length > 0) out.push_back(static_cast<int32_t>(best));
      text.remove_prefix(length > 0 ? length : 1);
    }
    return out;
  }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string out;
    for (const int32_t id : ids) out += token_text(id);
    return out;
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(texts_.size()); }
  std::string token_text(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? texts_[static_cast<size_t>(id)] : "";
  }
  std::optional<int32_t> id_of(std::string_view token) const override {
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (texts_[i] == token) return static_cast<int32_t>(i);
    }
    return {};
  }
  bool is_special(int32_t id) const override { return bos_ == id; }
  std::optional<int32_t> bos() const override { return bos_; }
  std::optional<int32_t> eos() const override { return {}; }
  bool adds_bos() const override { return bos_.has_value(); }

 private:
  std::vector<std::string> texts_;
  std::optional<int32_t> bos_;
};

}  // namespace pith::test
