// Adds the tokens of the files beside a tokenizer, as transformers does:
// "added_tokens_decoder" of tokenizer_config.json, and the special tokens that this file names
// ("bos_token", "additional_special_tokens", ...). Before there was an added_tokens_decoder,
// special_tokens_map.json and added_tokens.json said the same.
#pragma once

#include <string>

#include "core/json.h"
#include "formats/tokenizer/pipeline.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {

// The text of a tokenizer_config.json that holds the other two as well; they count where it has no
// added_tokens_decoder. Each may be empty.
std::string join_tokenizer_config(const std::string& tokenizer_config,
                                  const std::string& special_tokens_map,
                                  const std::string& added_tokens);
// The same of the files in a folder.
std::string read_tokenizer_config(const std::string& folder);

// An object; empty where the text is.
Json parse_tokenizer_config(std::string_view text);

// How a token that only the configuration has gets its id.
enum class ConfigIds {
  kNext,     // tokenizer.json: the id of its text there, or the next free one
  kAsGiven,  // SentencePiece, tiktoken: the given id, in place of the token that has it
};

// Adds the tokens of the configuration to `parts.added`, hides the special ones from the text of
// users in `vocabulary`, and sets bos and eos where they are named. Flags of the configuration
// count over those of the tokenizer.
void add_config_tokens(const Json& config, ConfigIds ids, Vocabulary& vocabulary,
                       PipelineParts& parts);

// One entry {"content": ..., "special": ..., "lstrip": ...} without its id.
AddedToken added_token_from_json(const Json& j, const std::string& file);

}  // namespace pith
