// Finds the tokens that end a generation in the files of a tokenizer:
//   - its EOS token (eos_token of tokenizer_config.json, the ids of a GGUF file or .model);
//   - tokens whose text ends a turn or a text in published models ("<|im_end|>", "<|eot_id|>"),
//     since many files name one of them as EOS and end turns with another;
//   - the special token that the chat template puts after an answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"

namespace pith {

// `known`: the ids that the files give.
std::vector<int32_t> find_stop_tokens(const Tokenizer& tokenizer, std::vector<int32_t> known,
                                      const std::string& chat_template);

}  // namespace pith
