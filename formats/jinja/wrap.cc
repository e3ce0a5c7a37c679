#include "formats/jinja/wrap.h"

#include <algorithm>
#include <string_view>

#include "formats/jinja/characters.h"

namespace pith::jinja {
namespace {

class Wrapper {
 public:
  Wrapper(const Text& text, const Wrapping& how)
      : text_(text), how_(how), starts_(char_starts(text.view())), n_(starts_.size() - 1) {
    for (size_t i = 0; i < n_; ++i) chars_.push_back(char_at(text.view(), starts_[i]).code);
  }

  std::vector<Text> run() {
    split();
    const auto width = static_cast<size_t>(std::min<int64_t>(how_.width, int64_t{1} << 32));
    std::vector<Text> lines;
    for (size_t next = 0; next < chunks_.size();) {
      if (!lines.empty() && is_blank(chunks_[next])) ++next;
      if (next == chunks_.size()) break;
      const size_t begin = chunks_[next].from;
      size_t end = begin, last = next;  // the line's characters, and the chunk after its last
      while (last < chunks_.size() && chunks_[last].to - begin <= width) end = chunks_[last++].to;
      Chunk tail = last > next ? chunks_[last - 1] : Chunk{end, end};
      if (last < chunks_.size() && chunks_[last].to - chunks_[last].from > width) {
        if (how_.break_long_words) {
          tail = {end, end + part_of_word(chunks_[last], width - (end - begin))};
          chunks_[last].from = end = tail.to;
        } else if (end == begin) {
          tail = chunks_[last];
          end = chunks_[last++].to;
        }
      }
      next = last;
      if (tail.from < tail.to && is_blank(tail)) end = tail.from;
      if (end > begin) lines.push_back(text_.slice(starts_[begin], starts_[end]));
    }
    return lines;
  }

 private:
  struct Chunk {
    size_t from, to;
  };

  bool is_white(size_t i) const {
    return i < n_ && ((chars_[i] >= 9 && chars_[i] <= 13) || chars_[i] == ' ');
  }
  bool is_hyphen(size_t i) const { return i < n_ && chars_[i] == '-'; }
  bool is_word(size_t i) const { return i < n_ && is_word_char(chars_[i]); }
  bool is_letter(size_t i) const { return is_word(i) && !is_decimal(chars_[i]); }
  bool is_word_or_mark(size_t i) const {
    return is_word(i) || (i < n_ && chars_[i] < 0x80 &&
                          std::string_view("!\"'&.,?").find(static_cast<char>(chars_[i])) !=
                              std::string_view::npos);
  }
  bool is_blank(const Chunk& chunk) const {
    for (size_t i = chunk.from; i < chunk.to; ++i) {
      if (!is_space(chars_[i])) return false;
    }
    return true;
  }

  // The end of the two or more hyphens at i that a word follows, or i.
  size_t dash_end(size_t i) const {
    size_t end = i;
    while (is_hyphen(end)) ++end;
    return end >= i + 2 && is_word(end) ? end : i;
  }
  bool may_break_after_hyphen(size_t i) const {
    const bool behind = (i >= 2 && is_letter(i - 2) && is_letter(i - 1)) ||
                        (i >= 3 && is_letter(i - 3) && is_hyphen(i - 2) && is_word_or_mark(i - 1));
    const size_t second = is_hyphen(i + 2) ? i + 3 : i + 2;
    return behind && is_letter(i + 1) && is_letter(second);
  }

  size_t chunk_end(size_t from) const {
    size_t end = from;
    if (is_white(from)) {
      while (is_white(end)) ++end;
      return end;
    }
    if (how_.break_on_hyphens && from > 0 && is_word_or_mark(from - 1)) {
      end = dash_end(from);
      if (end > from) return end;
    }
    for (end = from + 1; end < n_ && !is_white(end); ++end) {
      if (!how_.break_on_hyphens || !is_hyphen(end)) continue;
      if (may_break_after_hyphen(end)) return end + 1;
      if (is_word_or_mark(end - 1) && dash_end(end) > end) return end;
    }
    return end;
  }

  void split() {
    for (size_t at = 0; at < n_;) {
      const size_t end = chunk_end(at);
      chunks_.push_back({at, end});
      at = end;
    }
  }

  // How much of a word that is longer than a line goes into the space that is left of this one.
  size_t part_of_word(const Chunk& word, size_t space) const {
    if (!how_.break_on_hyphens) return space;
    size_t hyphen = word.from + space;
    while (hyphen > word.from && !is_hyphen(hyphen - 1)) --hyphen;  // one after the last hyphen
    for (size_t i = word.from; i + 1 < hyphen; ++i) {
      if (!is_hyphen(i)) return hyphen - word.from;
    }
    return space;
  }

  const Text& text_;
  const Wrapping& how_;
  const std::vector<uint32_t> starts_;
  const size_t n_;
  std::vector<char32_t> chars_;
  std::vector<Chunk> chunks_;
};

}  // namespace

std::vector<Text> wrap(const Text& paragraph, const Wrapping& how) {
  return Wrapper(paragraph, how).run();
}

}  // namespace pith::jinja
