// The options of every command that compresses a model: the calibration text, where it is read, and
// the output.
#pragma once

#include <string>
#include <vector>

#include "tools/command.h"

namespace pith::tools {

struct CompressCommand : Common, ModelOptions {
  std::string output;
  std::vector<std::string> calibration;               // as given; empty: what the method needs
  std::vector<std::string> standard_text = {"self"};  // that: default_sources() of the model
  int64_t nsamples = 64, seqlen = 1024;
  std::string memory;
  bool no_sequential = false, no_propagate = false;
  std::string device = "cpu";
  bool dry_run = false, restart = false;
  int max_fallbacks = 0;
  uint64_t seed = 0;
  bool random_seed = false;             // --seed -1
  std::vector<std::string> side_files;  // that it reads or writes beside the output

  ExecutorChoice executor() const { return {.cuda = device == "cuda", .inputs = CpuInputs::kF32}; }
};

// Declares IN and OUT, and at the end the options that stand behind those of the command.
void add_files(CLI::App& command, CompressCommand& o);
void add_calibration_options(CLI::App& command, CompressCommand& o);
void add_output_options(CLI::App& command, CompressCommand& o);

// "90M": decimal units, as sizes are printed; 0 where the text is empty. Error(kUsage) naming the
// option.
uint64_t size_of(const char* option, const std::string& text);

}  // namespace pith::tools
