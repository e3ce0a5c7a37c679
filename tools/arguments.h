// The words of a command line, read against the options that CLI11 was told of before CLI11 reads
// them, so that one set of rules holds for every option of every command:
//
//   an option takes one value, and is repeated for more; of options with one value the last counts
//   "--top_k" is "--top-k"; "-sys" is "--system"
//   numbers are finite
//   what is not known is an error that names the command and what was probably meant
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace pith::tools {

struct Words {
  const CLI::App* command = nullptr;  // the innermost that was named
  std::vector<std::string> words;     // for CLI11, in an order that leaves nothing to guess
  bool help = false, version = false;
  std::string json;  // what --json names
};

// Applies the rules to every option of every command; after all of them were added.
void set_rules(CLI::App& app);

// Error(kUsage) without the name of the command, which then is to->command.
void read_words(const CLI::App& app, const std::vector<std::string>& arguments, Words* to);

// "pith eval kl".
std::string command_name(const CLI::App& command);

// The candidate that a person who wrote `word` probably meant; "" where none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

// What CLI11 says of a value, as "--threads 0: must be 1 to 1024".
std::string plain_message(const std::string& message);

// A number in [low, high], NaN not among them.
CLI::Validator in_range(double low, double high);

}  // namespace pith::tools
