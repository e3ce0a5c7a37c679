#include "formats/tokenizer/tokenizer.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "core/utf8.h"
#include "formats/gguf.h"
#include "formats/tokenizer/stop_tokens.h"

namespace pith {
namespace {

constexpr size_t kWindow = 8;  // ids that a stream keeps as context of the next

std::unique_ptr<Tokenizer> make_from_files(const TokenizerFiles& files) {
  if (!files.tokenizer_json.empty())
    return make_json_tokenizer(files.tokenizer_json, files.tokenizer_config);
  if (!files.gguf.empty()) {
    return make_gguf_tokenizer(
        parse_gguf(as_bytes(files.gguf), files.gguf.size(), "GGUF vocabulary").metadata);
  }
  if (!files.sentencepiece.empty())
    return make_sentencepiece_tokenizer(files.sentencepiece, files.tokenizer_config);
  if (!files.tiktoken.empty())
    return make_tiktoken_tokenizer(files.tiktoken, files.tokenizer_config);
  if (!files.llama2c.empty()) return make_llama2c_tokenizer(files.llama2c);
  fail(ErrorKind::kUsage, "the model has no tokenizer; name one with --tokenizer");
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files) {
  try {
    auto made = make_from_files(files);
    made->set_stop_tokens(find_stop_tokens(*made, made->stop_tokens(), files.chat_template));
    return made;
  } catch (const Error& e) {
    if (files.from.empty()) throw;
    throw Error(e.kind(), files.from + ": " + e.what());
  }
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::span<const int32_t> context)
    : tokenizer_(tokenizer) {
  const auto last = context.last(std::min(context.size(), 2 * kWindow));
  ids_.assign(last.begin(), last.end());
  if (!ids_.empty()) shown_ = tokenizer_.decode(ids_).size();
}

// decode() of the ids so far, less what was shown. Where everything is shown only the last ids are
// kept as context, so that a stream costs O(n).
std::string StreamDecoder::push(int32_t id) {
  ids_.push_back(id);
  const std::string text = tokenizer_.decode(ids_);
  size_t certain = valid_utf8_prefix(text);
  // U+FFFD at the end may be an unfinished run of bytes that the next token completes.
  while (certain >= 3 && text.compare(certain - 3, 3, "\xef\xbf\xbd") == 0 &&
         ids_.size() < 4 * kWindow)
    certain -= 3;
  if (certain <= shown_) return "";
  std::string fresh = text.substr(shown_, certain - shown_);
  shown_ = certain;
  // The context must decode as it did in place: not begin inside of a character.
  for (size_t keep = kWindow;
       certain == text.size() && ids_.size() > 2 * kWindow && keep < 2 * kWindow; ++keep) {
    const std::vector<int32_t> context(ids_.end() - static_cast<ptrdiff_t>(keep), ids_.end());
    const std::string decoded = tokenizer_.decode(context);
    if (!text.ends_with(decoded)) continue;
    ids_ = context;
    shown_ = decoded.size();
    break;
  }
  return fresh;
}

std::string StreamDecoder::finish() {
  const std::string text = valid_utf8_or_replaced(tokenizer_.decode(ids_));
  std::string rest = text.size() > shown_ ? text.substr(shown_) : "";
  ids_.clear();
  shown_ = 0;
  return rest;
}

}  // namespace pith
