// Text to token ids and back. One interface over tokenizer.json, SentencePiece and tiktoken models,
// GGUF vocabularies and llama2.c vocabularies. Immutable once made; safe to share among threads.
//
// Text is UTF-8; invalid bytes are replaced by U+FFFD first, as Rust's tokenizers get it. Encoding
// takes O(n log n) time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/checkpoint.h"

namespace pith {

struct EncodeOptions {
  // Apply the post-processor: BOS, EOS, [CLS] ... as the tokenizer's files say.
  bool add_special = true;
  // Turn the text of special tokens ("<|im_end|>") into their ids. Off by default: the text of
  // users must not. Added tokens that are not special are always matched.
  bool parse_special = false;
  // With parse_special: byte ranges [begin, end), ascending, that users wrote. No special token is
  // found that touches one.
  std::span<const std::pair<size_t, size_t>> user_text = {};
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::vector<int32_t> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const = 0;
  // Ids out of range are skipped. May end inside a UTF-8 sequence where the tokens do.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special = true) const = 0;

  virtual int32_t vocab_size() const = 0;                // ids are in [0, vocab_size)
  virtual std::string token_text(int32_t id) const = 0;  // as stored, for people
  virtual std::optional<int32_t> id_of(std::string_view token) const = 0;
  virtual bool is_special(int32_t id) const = 0;

  // What the files say, where they do.
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  virtual bool adds_bos() const = 0;  // encode(..., add_special) begins with bos

  // Tokens that end a generation by the tokenizer's files: EOS, and those that end a turn. Empty
  // unless make_tokenizer() made the tokenizer (stop_tokens.h).
  const std::vector<int32_t>& stop_tokens() const { return stop_tokens_; }
  void set_stop_tokens(std::vector<int32_t> ids) { stop_tokens_ = std::move(ids); }

 private:
  std::vector<int32_t> stop_tokens_;
};

// From whichever file is there, in the order tokenizer.json, GGUF, SentencePiece, tiktoken,
// llama2.c.
// Error(kUsage) where there is none, kCorrupt or kUnsupported naming files.from and the part that
// is wrong.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files);

std::unique_ptr<Tokenizer> make_json_tokenizer(std::string_view tokenizer_json,
                                               std::string_view tokenizer_config);
// A .model does not say whether BOS and EOS are added: tokenizer_config.json does (add_bos_token,
// add_eos_token), and without it BPE models add BOS, as those of Llama, Mistral and Gemma do, and
// unigram models EOS, as that of T5 does.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        std::string_view tokenizer_config = {});
// Ranks of byte strings: `tiktoken.model`. Its pattern is that of Kimi and Moonlight where
// tokenizer_config.json names their class or there is none, and else that of Llama 3; special
// tokens are those of "added_tokens_decoder", the gaps between them are reserved.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view model,
                                                   std::string_view tokenizer_config = {});
std::unique_ptr<Tokenizer> make_gguf_tokenizer(const GgufMetadata& metadata);
std::unique_ptr<Tokenizer> make_llama2c_tokenizer(std::string_view tokenizer_bin);

// Makes a tokenizer.json from vocab.json and merges.txt, as the slow tokenizers of GPT-2 and Qwen 2
// read them.
std::string tokenizer_json_of(std::string_view vocab, std::string_view merges,
                              std::string_view tokenizer_config);

// The files of tokenizer and chat template in a model's folder, found as transformers finds them;
// all empty where there are none.
TokenizerFiles read_tokenizer_files(const std::string& folder);
// A tokenizer file of any kind by its content, with the configuration beside it (for --tokenizer
// FILE).
TokenizerFiles read_tokenizer_file(const std::string& path);
// The same in place of a model's own files, of which the chat template stays where it has none.
TokenizerFiles read_tokenizer_file(const std::string& path, const TokenizerFiles& own);
// The tokenizer of a checkpoint: the file `tokenizer_path` where it is named; else the container's
// own; else the files beside the checkpoint.
TokenizerFiles tokenizer_files_of(const Checkpoint& checkpoint,
                                  const std::string& tokenizer_path = "");

// Token by token, in pieces that are whole UTF-8 sequences.
class StreamDecoder {
 public:
  // The text goes on from that of `context`: decoders that drop the blank before the first word of
  // a text keep it.
  explicit StreamDecoder(const Tokenizer& tokenizer, std::span<const int32_t> context = {});
  std::string push(int32_t id);  // text that is certain now, often ""
  std::string finish();          // the rest

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  size_t shown_ = 0;  // bytes of decode(ids_) already returned
};

}  // namespace pith
