// config.json as the configuration classes of transformers read it (version 5.24, and 4.57 where
// that takes more): what a file leaves out has the default of its family's class, what it calls by
// an older name is renamed, and the parameters of RoPE come in one form, whether the file has
// rope_theta and rope_scaling or rope_parameters.
#pragma once

#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace pith {

inline constexpr const char* kConfig = "config.json";

// Every key that the family's class reads, with the right type; keys of other families are left
// out. null stays where it means "none" to the class. For a multimodal checkpoint these are the
// keys of the text model.
//   rope_parameters       an object with rope_type and rope_theta; of Gemma 3 two of them, by type
//                         of layer
//   tie_word_embeddings, attention_bias, ...   flags are true or false: null is false to Python
//   bos_token_id          -1 where there is none; ids outside of the vocabulary are left out
//   eos_token_id          a list, of the configuration and of generation_config.json
// Error(kCorrupt) naming the key, what it should be and what it is; Error(kUnsupported) for a key
// that would change the model and that pith does not support for the family. Tolerated and ignored
// keys are listed in `notes`.
Json read_hf_config(const Checkpoint& checkpoint, std::vector<std::string>* notes);

// Adds a note that a key is ignored, as in transformers.
void pass_over(const char* key, std::vector<std::string>* notes);

// The number of a key of rope_parameters; null where it is missing or null.
const Json* rope_number(const Json& parameters, const char* key);

}  // namespace pith
