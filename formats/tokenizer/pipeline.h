// The one tokenizer behind all file formats: added tokens, normalizer, pre-tokenizer, model,
// post-processor, decoder. Front ends (json_*.cc, sentencepiece.cc, gguf_vocabulary.cc,
// llama2c_vocabulary.cc) fill in the parts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/tokenizer/added_tokens.h"
#include "formats/tokenizer/decoder.h"
#include "formats/tokenizer/model.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/post_processor.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

struct PipelineParts {
  std::string file;                              // for messages
  std::shared_ptr<const Vocabulary> vocabulary;  // of the model
  std::unique_ptr<TokenModel> model;
  std::vector<AddedToken> added;
  NormalizerPtr normalizer;        // may be null, like all below
  NormalizerPtr later_normalizer;  // of text that does not begin the whole; null: the same
  PreTokenizerPtr pre_tokenizer;
  DecoderPtr decoder;  // null: tokens joined with blanks
  PostProcessor post_processor;
  std::optional<int32_t> bos, eos;
  std::vector<int32_t> stops;  // further tokens that the file says end a generation
};

std::unique_ptr<Tokenizer> make_pipeline(PipelineParts parts);

}  // namespace pith
