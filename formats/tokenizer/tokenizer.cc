#include "formats/tokenizer/tokenizer.h"

#include "core/bytes.h"
#include "core/error.h"
#include "formats/gguf.h"
#include "formats/tokenizer/unicode.h"

namespace pith {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
constexpr size_t kWindow = 8;  // ids that a stream keeps as context of the next

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files) {
  if (!files.tokenizer_json.empty())
    return make_json_tokenizer(files.tokenizer_json, files.tokenizer_config);
  if (!files.gguf.empty()) {
    return make_gguf_tokenizer(
        parse_gguf(as_bytes(files.gguf), files.gguf.size(), "GGUF vocabulary").metadata);
  }
  if (!files.sentencepiece.empty())
    return make_sentencepiece_tokenizer(files.sentencepiece, files.tokenizer_config);
  if (!files.llama2c.empty()) return make_llama2c_tokenizer(files.llama2c);
  fail(ErrorKind::kUsage, "the model has no tokenizer; name one with --tokenizer");
}

TokenizerFiles read_tokenizer_file(const std::string& path) {
  TokenizerFiles files;
  const File file = File::open_read(path);
  std::vector<std::byte> head(std::min<uint64_t>(file.size(), 4));
  file.read(0, head);
  if (looks_like_gguf(head)) {
    files.gguf = write_gguf_metadata(open_gguf(path).gguf, "tokenizer.");
    return files;
  }
  std::string text = read_text_file(path, kMaxFileBytes);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '{') {
    files.tokenizer_json = std::move(text);
    const std::string config = join_path(folder_of(path), "tokenizer_config.json");
    if (file_exists(config)) files.tokenizer_config = read_text_file(config, kMaxFileBytes);
  } else if (text.size() > 2 && text[0] == '\n' && (text[2] == '\n' || text[3] == '\n')) {
    files.sentencepiece = std::move(text);  // field 1, a message whose first field is 1 as well
  } else if (text.size() > 12 && text[2] == 0 && text[3] == 0) {
    files.llama2c = std::move(text);  // the longest token has fewer than 65,536 bytes
  } else {
    fail(ErrorKind::kUnsupported,
         "{}: not a tokenizer.json, a GGUF file, a SentencePiece model or a vocabulary of llama2.c",
         path);
  }
  return files;
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
