#include "tools/command.h"

#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "core/error.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "tools/terminal.h"

namespace pith::tools {

void Common::add_to(CLI::App& command) {
  command.add_option("-t,--threads", threads, "threads (default: all of this machine)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--json", json, "write the result as JSON to this file, - is standard output")
      ->type_name("FILE");
  command.add_flag("-q,--quiet", quiet, "no progress");
}

void Common::apply() const {
  cpu_kernels();  // a bad PITH_CPU is said before any work
  set_threads(threads);
  check_writable(json);  // not when the work is done
}

void Common::write_json(const Json& j) const {
  if (json.empty()) return;
  const std::string text = j.dump(2) + "\n";
  if (json == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
  } else {
    write_file(json, std::as_bytes(std::span(text)));
  }
}

CLI::Option* ModelOptions::add_to(CLI::App& command, const char* positional, const char* what) {
  auto* option = command.add_option(positional, model, what)->required()->type_name("MODEL");
  command
      .add_option("--tokenizer", tokenizer, "a tokenizer file that does not lie beside the model")
      ->type_name("FILE");
  command.add_flag("--no-verify", no_verify,
                   "do not check the checksums of a packed file while loading");
  return option;
}

void ExecutorOptions::add_to(CLI::App& command) {
  command.add_flag("--exact-inputs", exact_inputs,
                   "multiply weights of integers with inputs as they are (default: with inputs of "
                   "8 bits, one scale for 32 of them, several times as fast)");
  command.add_option("--device", device, "where to run: cpu or cuda (default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command
      .add_option("--gpu-layers", gpu_layers,
                  "with --device cuda: only the last so many layers and the head on the GPU, for "
                  "models that do not fit (default: all)")
      ->check(CLI::Range(0, 1 << 20));
  command.add_flag("--batch-invariant", batch_invariant,
                   "with --device cuda: the same bits for a token whatever is in its batch and "
                   "however its prompt is cut; long prompts are slower");
}

ExecutorChoice ExecutorOptions::executor() const {
  const bool cuda = device == "cuda";
  if (gpu_layers >= 0 && !cuda) fail(ErrorKind::kUsage, "--gpu-layers goes with --device cuda");
  if (batch_invariant && !cuda)
    fail(ErrorKind::kUsage, "--batch-invariant goes with --device cuda");
  return {cuda, exact_inputs ? CpuInputs::kF32 : CpuInputs::kInt8, gpu_layers, batch_invariant};
}

void print_memory(const MemoryPlan& plan, bool quiet) {
  if (quiet || plan.available == 0) return;
  tell("GPU memory: {} of weights, {} of keys and values, {} to compute in; {} free\n",
       human_bytes(plan.weights), human_bytes(plan.cache), human_bytes(plan.room),
       human_bytes(plan.available));
}

int run(int argc, const char* const* argv) {
  CLI::App app{"pith: compress language models, evaluate the result, run it"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "pith 0.1.0");
  app.get_formatter()->column_width(34);
  add_inspect(app);
  add_quantize(app);
  add_eval(app);
  add_compare(app);
  add_run(app);
  add_chat(app);
  add_tokenize(app);
  add_bench(app);
  add_verify(app);
  add_devices(app);
  try {
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0) fail(ErrorKind::kIo, "cannot write to standard output");
    return 0;
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : exit_code(ErrorKind::kUsage);
  } catch (const Error& e) {
    std::fflush(stdout);
    tell("pith: {}\n", e.what());
    return exit_code(e.kind());
  } catch (const std::bad_alloc&) {
    tell("pith: out of memory\n");
    return exit_code(ErrorKind::kMemory);
  } catch (const std::exception& e) {
    tell("pith: internal error: {}\n", e.what());
    return 1;
  }
}

}  // namespace pith::tools
