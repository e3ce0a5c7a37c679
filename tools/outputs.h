// Checks of the files that a command will write, before its work.
#pragma once

#include <string>

namespace pith::tools {

// Error(kUsage) where the output is the model, its tokenizer or a file of its folder that models
// are read from. Links are followed. Nothing for "" and "-".
void require_not_of_model(const std::string& output, const std::string& model,
                          const std::string& tokenizer = "");

}  // namespace pith::tools
