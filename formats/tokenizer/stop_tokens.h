// Which tokens end a generation, by the files of a tokenizer:
//   - its EOS token (eos_token of tokenizer_config.json, the ids of a GGUF file or .model);
//   - tokens with the texts that published models end a turn or a text with ("<|im_end|>",
//     "<|eot_id|>", ...), since many files name one of them as EOS and end turns with another;
//   - the special token that the chat template puts behind an answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"

namespace pith {

// `known` holds what the files give as ids.
std::vector<int32_t> find_stop_tokens(const Tokenizer& tokenizer, std::vector<int32_t> known,
                                      const std::string& chat_template);

}  // namespace pith
