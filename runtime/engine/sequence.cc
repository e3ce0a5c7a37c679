#include "runtime/engine/sequence.h"

#include <algorithm>
#include <optional>

#include "runtime/model/source.h"

namespace pith {
namespace {

// The special token that `text` consists of, apart from blanks around it.
std::optional<int32_t> special_token(const Tokenizer& tokenizer, std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  const auto id = tokenizer.id_of(text);
  return id && tokenizer.is_special(*id) ? id : std::nullopt;
}

}  // namespace

Sequence::Sequence(const proto::ModelSpec& spec, const Tokenizer& tokenizer,
                   std::span<const int32_t> prompt, const GenerateOptions& options)
    : options_(options),
      prompt_tokens_(std::ssize(prompt)),
      history_(prompt.begin(), prompt.end()),
      sampler_(options.sampling),
      decoder_(tokenizer, options.continues_prompt ? prompt : std::span<const int32_t>()) {
  if (!options.ignore_stop_tokens) stops_ = stop_tokens(spec, tokenizer);
  for (const auto& text : options.stop) {
    if (const auto id = special_token(tokenizer, text)) stops_.push_back(*id);
  }
  if (options.max_tokens == 0) finish_ = "length";
}

std::string Sequence::push(int32_t token, bool full) {
  const bool stopped = std::ranges::find(stops_, token) != stops_.end();
  if (!stopped) {
    history_.push_back(token);
    if (append(decoder_.push(token))) {
      finish_ = "stop";
      return show(text_.size());
    }
    const bool enough = options_.max_tokens >= 0 && std::ssize(answer()) >= options_.max_tokens;
    if (!full && !enough) return show(showable());
  }
  const bool stop_text = append(decoder_.finish());
  finish_ = stopped || stop_text ? "stop" : full ? "context" : "length";
  return show(text_.size());
}

// Adds to the text; true where it now has a stop text, of which nothing stays. Of several, the
// first in the text counts.
bool Sequence::append(const std::string& piece) {
  const size_t searched = text_.size();
  text_ += piece;
  size_t end = std::string::npos;
  for (const auto& stop : options_.stop) {
    const size_t from = searched >= stop.size() ? searched - stop.size() : 0;
    if (!stop.empty()) end = std::min(end, text_.find(stop, from));
  }
  if (end == std::string::npos) return false;
  text_.resize(end);
  return true;
}

// The length of the part of the text that can be shown: all of it, or up to a beginning of a stop
// text that may still be completed.
size_t Sequence::showable() const {
  size_t end = text_.size();
  for (const auto& stop : options_.stop) {
    for (size_t n = std::min(stop.size(), text_.size()); n > 0; --n) {
      if (text_.compare(text_.size() - n, n, stop, 0, n) == 0) {
        end = std::min(end, text_.size() - n);
        break;
      }
    }
  }
  return end;
}

std::string Sequence::show(size_t end) {
  if (end <= shown_) return "";
  std::string piece = text_.substr(shown_, end - shown_);
  shown_ = end;
  return piece;
}

}  // namespace pith
