#include "formats/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <string_view>

#include "core/utf8.h"
#include "formats/tokenizer/byte_level.h"

namespace pith {
namespace {

struct Part {
  size_t begin, end;
  bool match;
};

// Matches come in order; what lies between them becomes a part that is none. `invert` swaps the
// two. Matches may be empty: they keep their neighbours apart.
class Parts {
 public:
  explicit Parts(bool invert) : invert_(invert) {}
  void begin(Words::Span word) {
    word_ = word;
    at_ = word.begin;
    parts_.clear();
  }
  void match(size_t begin, size_t end) {  // relative to the word
    gap(word_.begin + begin);
    parts_.push_back({word_.begin + begin, word_.begin + end, !invert_});
    at_ = word_.begin + end;
  }
  const std::vector<Part>& finish() {
    gap(word_.end);
    return parts_;
  }

 private:
  void gap(size_t end) {
    if (at_ < end) parts_.push_back({at_, end, invert_});
  }
  Words::Span word_{};
  size_t at_ = 0;
  bool invert_;
  std::vector<Part> parts_;
};

void append_parts(const std::vector<Part>& parts, SplitBehavior behavior,
                  std::vector<Words::Span>& to) {
  const size_t first = to.size();
  const auto joins = [&](size_t i) {  // part i continues the span of part i - 1
    if (i == 0) return false;
    const bool before = parts[i - 1].match, here = parts[i].match;
    switch (behavior) {
      case SplitBehavior::kMergedWithPrevious:
        return here && !before;
      case SplitBehavior::kMergedWithNext:
        return before && !here;
      case SplitBehavior::kContiguous:
        return before == here;
      default:
        return false;
    }
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    if (behavior == SplitBehavior::kRemoved && parts[i].match) continue;
    if (to.size() > first && joins(i)) {
      to.back().end = parts[i].end;
    } else {
      to.push_back({parts[i].begin, parts[i].end});
    }
  }
  const auto is_empty = [](const Words::Span& span) { return span.begin == span.end; };
  to.erase(std::remove_if(to.begin() + static_cast<ptrdiff_t>(first), to.end(), is_empty),
           to.end());
}

// find(text, budget, report) reports the matches in one word.
template <class Find>
PreTokenizerPtr split_at(Find find, SplitBehavior behavior, bool invert) {
  class Split final : public PreTokenizer {
   public:
    Split(Find f, SplitBehavior b, bool i) : find_(std::move(f)), behavior_(b), invert_(i) {}
    void apply(Words& words, TextBudget& budget) const override {
      std::vector<Words::Span> spans;
      spans.reserve(words.spans.size());
      Parts parts(invert_);
      const auto report = [&](size_t begin, size_t end) { parts.match(begin, end); };
      for (const Words::Span word : words.spans) {
        parts.begin(word);
        find_(std::string_view(words.text).substr(word.begin, word.end - word.begin), budget,
              report);
        append_parts(parts.finish(), behavior_, spans);
      }
      budget.charge_bytes(words.text.size(), words.text.size(), "Split");
      words.spans = std::move(spans);
    }

   private:
    Find find_;
    SplitBehavior behavior_;
    bool invert_;
  };
  return std::make_unique<Split>(std::move(find), behavior, invert);
}

// respell(word, out, is first) appends the new spelling of each word.
template <class Respell>
void respell_words(Words& words, TextBudget& budget, const char* component,
                   const Respell& respell) {
  std::string out;
  out.reserve(words.text.size() * 5 / 4);
  for (Words::Span& word : words.spans) {
    const size_t begin = out.size();
    respell(std::string_view(words.text).substr(word.begin, word.end - word.begin), out,
            word.begin == 0);
    budget.check_size(out.size(), component);
    word = {begin, out.size()};
  }
  budget.charge_bytes(words.text.size(), out.size(), component);
  words.text = std::move(out);
}

class SplitSequence final : public PreTokenizer {
 public:
  explicit SplitSequence(std::vector<PreTokenizerPtr> parts) : parts_(std::move(parts)) {}
  void apply(Words& words, TextBudget& budget) const override {
    for (const auto& part : parts_) part->apply(words, budget);
  }

 private:
  std::vector<PreTokenizerPtr> parts_;
};

class ByteLevelSplit final : public PreTokenizer {
 public:
  ByteLevelSplit(bool add_prefix_space, PreTokenizerPtr regex)
      : add_prefix_space_(add_prefix_space), regex_(std::move(regex)) {}
  void apply(Words& words, TextBudget& budget) const override {
    if (add_prefix_space_) {
      respell_words(words, budget, "ByteLevel", [](std::string_view word, std::string& out, bool) {
        if (!word.starts_with(' ')) out += ' ';
        out += word;
      });
    }
    if (regex_) regex_->apply(words, budget);
    respell_words(words, budget, "ByteLevel", [](std::string_view word, std::string& out, bool) {
      append_byte_level(out, word);
    });
  }

 private:
  bool add_prefix_space_;
  PreTokenizerPtr regex_;
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)),
        scheme_(scheme),
        split_(split ? split_text(replacement_, SplitBehavior::kMergedWithNext, false) : nullptr) {}
  void apply(Words& words, TextBudget& budget) const override {
    respell_words(
        words, budget, "Metaspace", [&](std::string_view word, std::string& out, bool first) {
          const bool wanted = scheme_ == PrependScheme::kAlways ||
                              (scheme_ == PrependScheme::kFirst && first && words.begins_text);
          if (wanted && !word.starts_with(' ') && !word.starts_with(replacement_))
            out += replacement_;
          for (const char c : word) {
            if (c == ' ') {
              budget.check_size(out.size(), "Metaspace");
              out += replacement_;
            } else {
              out += c;
            }
          }
        });
    if (split_) split_->apply(words, budget);
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  PreTokenizerPtr split_;
};

// Runs of word characters and runs of others, both without blanks.
template <class Report>
void find_words(std::string_view text, const Report& report) {
  size_t begin = 0;
  int open = 0;  // 0 blank, 1 word, 2 other
  for (size_t at = 0; at <= text.size();) {
    const size_t here = at;
    int kind = 0;
    if (at < text.size()) {
      const char32_t c = next_code_point(text, at);
      kind = is_word(c) ? 1 : is_white_space(c) ? 0 : 2;
    } else {
      ++at;
    }
    if (kind == open) continue;
    if (open != 0) report(begin, here);
    begin = here;
    open = kind;
  }
}

}  // namespace

PreTokenizerPtr split_sequence(std::vector<PreTokenizerPtr> parts) {
  return std::make_unique<SplitSequence>(std::move(parts));
}

PreTokenizerPtr split_regex(Regex pattern, SplitBehavior behavior, bool invert) {
  return split_at([pattern = std::move(pattern)](
                      std::string_view text, TextBudget& budget,
                      const auto& report) { pattern.for_each_match(text, budget, report); },
                  behavior, invert);
}

PreTokenizerPtr split_text(std::string pattern, SplitBehavior behavior, bool invert) {
  return split_at(
      [pattern = std::move(pattern)](std::string_view text, TextBudget&, const auto& report) {
        if (pattern.empty()) return;
        for (size_t at = 0; (at = text.find(pattern, at)) != std::string_view::npos;
             at += pattern.size()) {
          report(at, at + pattern.size());
        }
      },
      behavior, invert);
}

PreTokenizerPtr split_characters(bool (*is_match)(char32_t), SplitBehavior behavior) {
  return split_at(
      [is_match](std::string_view text, TextBudget&, const auto& report) {
        for (size_t at = 0; at < text.size();) {
          const size_t begin = at;
          if (is_match(next_code_point(text, at))) report(begin, at);
        }
      },
      behavior, false);
}

PreTokenizerPtr split_whitespace() {
  return split_at(
      [](std::string_view text, TextBudget&, const auto& report) { find_words(text, report); },
      SplitBehavior::kRemoved, true);
}

PreTokenizerPtr split_bert() {
  std::vector<PreTokenizerPtr> parts;
  parts.push_back(split_characters(is_white_space, SplitBehavior::kRemoved));
  parts.push_back(split_characters(is_punctuation, SplitBehavior::kIsolated));
  return split_sequence(std::move(parts));
}

PreTokenizerPtr split_byte_level(bool add_prefix_space, bool use_regex, const std::string& file) {
  PreTokenizerPtr regex;
  if (use_regex) regex = split_regex(Regex(kGpt2Pattern, file), SplitBehavior::kIsolated, false);
  return std::make_unique<ByteLevelSplit>(add_prefix_space, std::move(regex));
}

PreTokenizerPtr split_metaspace(std::string replacement, PrependScheme scheme, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}

}  // namespace pith
