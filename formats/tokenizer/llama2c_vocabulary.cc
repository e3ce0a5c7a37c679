// tokenizer.bin of llama2.c: u32 length of the longest token, then for each token f32 score, i32
// length and its bytes, to the end of the file. Ids in order: 0 unknown, 1 BOS, 2 EOS, 3 to 258 the
// bytes "<0x00>" to "<0xFF>", then text with plain blanks. Text gets a blank in front; the
// best-scored merge goes first.

#include <cmath>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/printable.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/pipeline.h"

namespace pith {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr int32_t kUnknown = 0, kBos = 1, kEos = 2, kFirstByte = 3, kFirstText = 259;

AddedToken special_token(const Vocabulary& vocabulary, int32_t id, const char* name) {
  AddedToken token;
  // Stored with line breaks around it ("\n<s>\n").
  token.text = vocabulary.token(id).find(name) != std::string::npos ? name : vocabulary.token(id);
  token.id = id;
  token.special = true;
  return token;
}

}  // namespace

std::unique_ptr<Tokenizer> make_llama2c_tokenizer(std::string_view bytes) {
  const std::string file = "llama2.c vocabulary";
  if (bytes.size() > kMaxFileBytes)
    fail(ErrorKind::kCorrupt, "{}: {} bytes, more than {}", file, bytes.size(), kMaxFileBytes);
  ByteReader reader(as_bytes(bytes), file);
  const auto longest = reader.read<uint32_t>("longest token");
  auto vocabulary = std::make_shared<Vocabulary>();
  ScoredBpeVocabulary scored;
  for (uint64_t id = 0; reader.remaining() > 0; ++id) {
    const auto score = reader.read<float>("score");
    const auto length = reader.read<int32_t>("length");
    if (length < 0 || static_cast<uint32_t>(length) > longest) {
      fail(ErrorKind::kCorrupt, "{}: token {} has {} bytes, the longest should have {}", file, id,
           length, longest);
    }
    const auto token = reader.text(static_cast<uint64_t>(length), "token");
    if (!std::isfinite(score))
      fail(ErrorKind::kCorrupt, "{}: the score of token {} is not finite", file, id);
    if (valid_utf8_prefix(token) != token.size())
      fail(ErrorKind::kCorrupt, "{}: token {} is not UTF-8", file, id);
    const bool is_byte = id >= kFirstByte && id < kFirstText;
    if (is_byte && byte_of_token(token) != static_cast<unsigned char>(id - kFirstByte)) {
      fail(ErrorKind::kCorrupt, "{}: token {} should be the byte <0x{:02X}>, it is {}", file, id,
           id - kFirstByte, printable(token));
    }
    vocabulary->add(token, id, file);
    scored.scores.push_back(score);
    scored.mergeable.push_back(id >= kFirstText && !token.empty());
    scored.unused.push_back(false);
  }
  if (vocabulary->size() < kFirstText) {
    fail(ErrorKind::kCorrupt, "{}: {} tokens, at least {} are needed", file, vocabulary->size(),
         kFirstText);
  }
  scored.freeze_unknown = true;
  PipelineParts parts;
  parts.file = file;
  parts.vocabulary = vocabulary;
  parts.added = {special_token(*vocabulary, kUnknown, "<unk>"),
                 special_token(*vocabulary, kBos, "<s>"), special_token(*vocabulary, kEos, "</s>")};
  BpeOptions options;
  options.byte_fallback = true;
  parts.model = make_scored_bpe(vocabulary, std::move(scored), options);
  parts.normalizer = normalize_prepend(" ");
  std::vector<DecoderPtr> decoders;
  decoders.push_back(decode_byte_fallback());
  decoders.push_back(decode_fuse());
  decoders.push_back(decode_strip(" ", 1, 0));
  parts.decoder = decode_sequence(std::move(decoders));
  parts.bos = kBos;
  parts.eos = kEos;
  parts.post_processor.before = {kBos};
  return make_pipeline(std::move(parts));
}

}  // namespace pith
