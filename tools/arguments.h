// Reads a command line before CLI11 does, against the options that CLI11 knows, so that one set of
// rules holds for every option of every command:
//
//   an option takes one value, and is repeated for more; of options with one value the last counts
//   "--top_k" is "--top-k"; "-sys" is "--system"
//   numbers are finite
//   unknown words are errors that name the command and the probable intention
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace pith::tools {

struct Words {
  const CLI::App* command = nullptr;  // the innermost that was named
  std::vector<std::string> words;     // for CLI11, in an order without ambiguities
  bool help = false, version = false;
  std::string json;  // the file of --json
};

// Applies the rules to every option of every command; after all of them were added.
void set_rules(CLI::App& app);

// Error(kUsage) without the name of the command, which then is to->command.
void read_words(const CLI::App& app, const std::vector<std::string>& arguments, Words* to);

// "pith eval kl".
std::string command_name(const CLI::App& command);

// CLI11's message on a value, rewritten as "--threads 0: must be 1 to 1024".
std::string plain_message(const std::string& message);

// A number in [low, high], NaN not among them.
CLI::Validator in_range(double low, double high);

}  // namespace pith::tools
